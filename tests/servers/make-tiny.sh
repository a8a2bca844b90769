#!/bin/bash
# make-tiny.sh OUT.img [SIZE]   (SIZE: default 256M)
#
# A small office's server: Debian's cloud kernel and busybox on a disk that boots by BIOS or UEFI,
# from virtio or NVMe, in seconds even under TCG. HOSTNAME_ changes its name. On port 80:
#   /                     the office's page with the list of rows
#   /cgi-bin/put?TEXT     appends TEXT as a row, answers after it is on the disk
#   /cgi-bin/get          the rows, one a line
#   /boots.html           how many times this disk was booted
#   /counter.html         a number that grows on the disk every second
#   /cgi-bin/metadata?PATH  what EC2's metadata service says to it, such as meta-data/instance-id
#   /cgi-bin/fetch?ADDRESS/PATH  what it can reach on port 80: the answer's beginning, or "unreachable"
# It powers off when its power button is pressed.
# Needs no root. The kernel is downloaded once and kept in ${XDG_CACHE_HOME:-~/.cache}/reclo.
. "$(dirname "$(readlink -f "$0")")/common.sh"

[ $# -ge 1 ] && [ $# -le 2 ] || { sed -n '2,15s/^# \{0,1\}//p' "$0" >&2; exit 2; }
out=$1 size=${2:-256M} name=${HOSTNAME_:-frontdesk}
work_folder
root=$work/root

# Drivers that a machine may need for its disk, its network and its power button, and what those need.
drivers=(button evdev virtio_pci virtio_blk virtio_scsi virtio_net nvme ata_piix sd_mod xen_blkfront xen_netfront ena ext4)

# copy_drivers KERNEL TARGET: unpacks the drivers and what they depend on, and lists them in order.
copy_drivers() {
  local modules=$1 target=$2 driver name path
  for driver in "${drivers[@]}"; do
    /sbin/modprobe -d "$kernel" -S "$(basename "$modules")" --show-depends "$driver" 2>/dev/null || true
  done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' >"$work/driver-paths"
  [ -s "$work/driver-paths" ] || die "no drivers found in $modules"
  while read -r path; do
    name=$(basename "$path" .ko)
    cp "$path" "$target/$name.ko"
    echo "$name" >>"$target/order"
  done <"$work/driver-paths"
}

make_initrd() {
  local modules=$1 out=$2 tree=$work/initrd
  mkdir -p "$tree"/{bin,dev,proc,sys,newroot,drivers}
  cp /bin/busybox "$tree/bin/busybox"
  ln -s busybox "$tree/bin/sh"
  copy_drivers "$modules" "$tree/drivers"
  cat >"$tree/init" <<'INIT'
#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev
for driver in $(cat /drivers/order); do insmod /drivers/$driver.ko 2>/dev/null; done
tries=0
until root=$(findfs LABEL=root 2>/dev/null); do
  tries=$((tries + 1))
  [ $tries -lt 300 ] || { echo "initrd: no file system is labelled root"; exec sh; }
  sleep 0.1
done
mount -t ext4 "$root" /newroot || exec sh
mount -t proc proc /newroot/proc; umount /sys /proc; umount /dev
exec switch_root /newroot /sbin/init
INIT
  chmod +x "$tree/init"
  (cd "$tree" && find . | LC_ALL=C sort | cpio -o -H newc --quiet | gzip -1n) >"$out"
}

make_root() {
  mkdir -p "$root"/{boot,bin,sbin,etc/acpi/PWRF,proc,sys,dev,run,tmp,var/lib/office,var/www/cgi-bin}
  mkdir -p "$root/usr/share/udhcpc"
  cp /bin/busybox "$root/bin/busybox"
  ln -s busybox "$root/bin/sh"
  cp "$1"/boot/vmlinuz-* "$root/boot/vmlinuz"
  echo "$name" >"$root/etc/hostname"
  echo 'LABEL=root / ext4 defaults 0 1' >"$root/etc/fstab"
  : >"$root/var/lib/office/rows"
  write_programs
  chmod +x "$root"/sbin/* "$root"/bin/office-page "$root"/var/www/cgi-bin/* \
    "$root"/etc/acpi/PWRF/* "$root/usr/share/udhcpc/default.script"
}

# write_programs: the server's own scripts, run by busybox in the guest.
write_programs() {
  cat >"$root/sbin/init" <<'INIT'
#!/bin/sh
export PATH=/bin:/sbin
/bin/busybox --install -s /bin
mount -t proc proc /proc 2>/dev/null
mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev; mount -o remount,rw /
hostname "$(cat /etc/hostname)"
boots=$(($(cat /var/lib/office/boots 2>/dev/null || echo 0) + 1))
echo $boots >/var/lib/office/boots
echo "$(cat /etc/hostname) boot $boots" >/var/www/boots.html
ip link set lo up
for device in $(ls /sys/class/net); do
  [ $device = lo ] && continue
  ip link set $device up
  udhcpc -i $device -n -q -t 10 -T 1 -s /usr/share/udhcpc/default.script
done
acpid -f -p /run/acpid.pid -l /dev/null &
office-page
httpd -p 80 -h /var/www
echo "SERVER-UP $(cat /etc/hostname) boot $boots"
counter=$(cat /var/www/counter.html 2>/dev/null || echo 0)
while :; do
  counter=$((counter + 1))
  echo $counter >/var/www/counter.next && mv /var/www/counter.next /var/www/counter.html
  sync
  sleep 1
done
INIT
  # The power button, pressed: acpid runs this by its event's name and number.
  cat >"$root/etc/acpi/PWRF/00000080" <<'POWER'
#!/bin/sh
export PATH=/bin:/sbin
sync
mount -o remount,ro /
poweroff -f
POWER
  cat >"$root/usr/share/udhcpc/default.script" <<'DHCP'
#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr flush dev $interface
ip addr add $ip/${mask:-24} dev $interface
[ -z "$router" ] || ip route add default via $router
DHCP
  cat >"$root/bin/office-page" <<'PAGE'
#!/bin/sh
# Writes the page from the rows; renamed into place, so that nobody reads half a page.
page=/var/www/index.next
{
  echo "<!doctype html><html><head><title>Hillside Family Practice</title></head><body>"
  echo "<h1>Hillside Family Practice</h1>"
  echo "<p>Appointments on $(cat /etc/hostname):</p><ol>"
  sed 's/&/\&amp;/g; s/</\&lt;/g; s/>/\&gt;/g; s/^/<li>/; s/$/<\/li>/' /var/lib/office/rows
  echo "</ol></body></html>"
} >$page
mv $page /var/www/index.html
PAGE
  cat >"$root/var/www/cgi-bin/put" <<'PUT'
#!/bin/sh
export PATH=/bin:/sbin
text=$(httpd -d "$QUERY_STRING" | tr -d '\r\n' | cut -c1-500)
echo "$text" >>/var/lib/office/rows
office-page
sync
printf 'Content-Type: text/plain\r\n\r\nstored %s\n' "$text"
PUT
  # IMDSv2: a token first. busybox has no curl, and its wget crashes.
  cat >"$root/var/www/cgi-bin/metadata" <<'METADATA'
#!/bin/sh
export PATH=/bin:/sbin
printf 'Content-Type: text/plain\r\n\r\n'
ask() { printf '%s HTTP/1.0\r\n%s\r\n\r\n' "$1" "$2" | nc -w 10 169.254.169.254 80 | tr -d '\r'; }
token=$(ask 'PUT /latest/api/token' 'X-aws-ec2-metadata-token-ttl-seconds: 60' | sed '1,/^$/d')
ask "GET /latest/$(httpd -d "$QUERY_STRING")" "X-aws-ec2-metadata-token: $token" |
  sed '1s/^HTTP[^ ]* 200.*/ok/; 2,/^$/d'
METADATA
  cat >"$root/var/www/cgi-bin/fetch" <<'FETCH'
#!/bin/sh
export PATH=/bin:/sbin
printf 'Content-Type: text/plain\r\n\r\n'
place=$(httpd -d "$QUERY_STRING")
printf 'GET /%s HTTP/1.0\r\n\r\n' "${place#*/}" | nc -w 5 "${place%%/*}" 80 2>/dev/null |
  sed '1,/^\r*$/d' | head -c 100 | grep . || echo unreachable
FETCH
  cat >"$root/var/www/cgi-bin/get" <<'GET'
#!/bin/sh
printf 'Content-Type: text/plain\r\n\r\n'
/bin/cat /var/lib/office/rows
GET
}

kernel=$(fetch_cloud_kernel)
modules=$(echo "$kernel"/lib/modules/*)
[ -f "$modules/modules.dep" ] || /sbin/depmod -b "$kernel" "$(basename "$modules")"
make_root "$kernel"
make_initrd "$modules" "$root/boot/initrd.img"
assemble_disk "$root" "$out" "$size"
