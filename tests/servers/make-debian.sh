#!/bin/bash
# make-debian.sh OUT.img [SIZE]   (SIZE: default 4G)
#
# A real Debian server: systemd, nginx and a PostgreSQL database with rows, on a disk that boots by
# BIOS or UEFI, from virtio or NVMe. HOSTNAME_ changes its name, PACKAGES (comma-separated) adds
# more. On port 80, the same as make-tiny.sh, but from the database:
#   /                     the office's page with the list of rows
#   /cgi-bin/put?TEXT     inserts TEXT as a row, answers after the commit
#   /cgi-bin/get          the rows, one a line
#   /cgi-bin/check        how many patients there are, and a checksum over all of them
# LAYOUT=lvm makes the server that does not start elsewhere: UEFI without a fallback loader, root on
# LVM, a static address on ens192, an initramfs with SATA drivers only, fstab by /dev/sdX, and mounts
# that stay at home. It needs guestfish.
# debootstrap needs root: sudo is used where the caller is not. The installed system is kept as an
# archive in ${XDG_CACHE_HOME:-~/.cache}/reclo, so that only the first run downloads.
. "$(dirname "$(readlink -f "$0")")/common.sh"

[ $# -ge 1 ] && [ $# -le 2 ] || { sed -n '2,16s/^# \{0,1\}//p' "$0" >&2; exit 2; }
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || die "debootstrap needs root: run this as root, or install sudo"
  exec sudo --preserve-env=HOME,XDG_CACHE_HOME,TMPDIR,HOSTNAME_,PACKAGES,LAYOUT "$0" "$@"
fi

out=$1 size=${2:-4G} name=${HOSTNAME_:-office} layout=${LAYOUT:-plain}
case $layout in plain | lvm) ;; *) die "LAYOUT is plain or lvm, not '$layout'" ;; esac
work_folder
root=$work/root

packages=(
  systemd-sysv udev kmod linux-image-cloud-amd64 dbus procps iproute2
  nginx-light fcgiwrap postgresql
)
if [ "$layout" = lvm ]; then
  packages=("${packages[@]/linux-image-cloud-amd64/linux-image-amd64}" lvm2 ifupdown)
fi

# install_debian: debootstrap into $root, then the office's database and pages.
install_debian() {
  local include
  include=$(IFS=,; echo "${packages[*]}")${PACKAGES:+,$PACKAGES}
  debootstrap --variant=minbase --include="$include" bookworm "$root" "$(debian_mirror)" \
    >"$work/debootstrap.log" 2>&1 ||
    { tail -n 5 "$work/debootstrap.log" >&2; die "debootstrap failed; its last lines are above"; }
  rm -f "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*_*
  ln -sf "$(basename "$root"/boot/vmlinuz-*)" "$root/boot/vmlinuz"
  ln -sf "$(basename "$root"/boot/initrd.img-*)" "$root/boot/initrd.img"
  echo 'LABEL=root / ext4 defaults 0 1' >"$root/etc/fstab"
  printf '[Match]\nName=en* eth*\n[Network]\nDHCP=ipv4\n' >"$root/etc/systemd/network/lan.network"
  echo 'root:root' | chroot "$root" chpasswd
  chroot "$root" systemctl --quiet enable systemd-networkd.service serial-getty@ttyS0.service \
    nginx.service fcgiwrap.socket postgresql.service
  chroot "$root" systemctl --quiet mask apt-daily.timer apt-daily-upgrade.timer \
    systemd-networkd-wait-online.service
  write_pages
  make_database
  [ "$layout" = plain ] || bind_to_hardware
}

# bind_to_hardware: what years on one machine do to a server.
bind_to_hardware() {
  printf '%s\n' '/dev/mapper/office-root / ext4 defaults 0 1' \
    '/dev/sda1 /boot/efi vfat umask=0077 0 1' \
    '/dev/sdb1 /srv/archive ext4 defaults 0 2' \
    'nas.office:/export /srv/nas nfs defaults 0 0' >"$root/etc/fstab"
  mkdir -p "$root/boot/efi" "$root/srv/archive" "$root/srv/nas"
  rm -f "$root/etc/systemd/network/lan.network"
  chroot "$root" systemctl --quiet disable systemd-networkd.service systemd-networkd.socket
  printf '%s\n' 'auto lo' 'iface lo inet loopback' '' 'auto ens192' 'iface ens192 inet static' \
    '  address 192.168.7.20/24' '  gateway 192.168.7.1' >"$root/etc/network/interfaces"
  echo 'nameserver 192.168.7.1' >"$root/etc/resolv.conf"
  # What MODULES=dep finds on a machine with SATA disks; it would look at this machine's.
  sed -i 's/^MODULES=.*/MODULES=list/' "$root/etc/initramfs-tools/initramfs.conf"
  printf '%s\n' ahci sd_mod dm_mod ext4 >>"$root/etc/initramfs-tools/modules"
  chroot "$root" update-initramfs -u >"$work/initramfs.log" 2>&1 ||
    { tail -n 5 "$work/initramfs.log" >&2; die "update-initramfs failed"; }
}

# sql DATABASE: runs standard input's statements (one a line) without starting a server, which
# would have to be stopped again and would use the host's ports.
sql() {
  chroot "$root" su postgres -s /bin/sh -c "/usr/lib/postgresql/15/bin/postgres --single -j \
    -c config_file=/etc/postgresql/15/main/postgresql.conf -c dynamic_shared_memory_type=mmap \
    -c exit_on_error=on -c logging_collector=off $1" >"$work/sql.log" 2>&1 ||
    { tail -n 5 "$work/sql.log" >&2; die "making the database failed"; }
}

make_database() {
  [ -d "$root/var/lib/postgresql/15/main" ] || die "PostgreSQL's package made no cluster"
  printf '%s\n' 'CREATE ROLE "www-data" LOGIN;' '' 'CREATE DATABASE office OWNER "www-data";' |
    sql postgres
  printf '%s\n' \
    'CREATE TABLE rows (id serial PRIMARY KEY, text text NOT NULL);' '' \
    "CREATE TABLE patients AS SELECT i AS id, md5(i::text) AS name, md5((i * 7)::text) || \
md5((i * 13)::text) AS notes FROM generate_series(1, 20000) AS i;" '' \
    'ALTER TABLE patients ADD PRIMARY KEY (id);' '' \
    'ALTER TABLE rows OWNER TO "www-data";' '' \
    'ALTER TABLE patients OWNER TO "www-data";' | sql office
}

# write_pages: nginx and the programs behind its pages; they reach the database as www-data.
write_pages() {
  local cgi=$root/usr/lib/cgi-bin
  echo 'DAEMON_OPTS=-fc4' >"$root/etc/default/fcgiwrap"  # four at a time: one slow page blocks none
  mkdir -p "$cgi"
  cat >"$root/etc/nginx/sites-available/default" <<'NGINX'
server {
  listen 80 default_server;
  location = / { rewrite ^ /cgi-bin/page last; }
  location /cgi-bin/ {
    include fastcgi_params;
    fastcgi_param SCRIPT_FILENAME /usr/lib$fastcgi_script_name;
    fastcgi_pass unix:/run/fcgiwrap.socket;
  }
}
NGINX
  cat >"$cgi/page" <<'PAGE'
#!/bin/bash
rows=$(psql -qAtX office -c 'SELECT text FROM rows ORDER BY id') || { printf 'Status: 503\r\n\r\n'; exit; }
printf 'Content-Type: text/html\r\n\r\n'
echo "<!doctype html><html><head><title>Hillside Family Practice</title></head><body>"
echo "<h1>Hillside Family Practice</h1><p>Appointments on $(cat /etc/hostname):</p><ol>"
[ -z "$rows" ] || sed 's/&/\&amp;/g; s/</\&lt;/g; s/>/\&gt;/g; s/^/<li>/; s/$/<\/li>/' <<<"$rows"
echo "</ol></body></html>"
PAGE
  cat >"$cgi/put" <<'PUT'
#!/bin/bash
text=${QUERY_STRING//+/ }
text=$(printf '%b' "${text//%/\\x}" | tr -d '\r\n' | cut -c1-500)
psql -qX -v ON_ERROR_STOP=1 -v text="$text" office <<<"INSERT INTO rows (text) VALUES (:'text');" >/dev/null 2>&1 ||
  { printf 'Status: 503\r\n\r\n'; exit; }
printf 'Content-Type: text/plain\r\n\r\nstored %s\n' "$text"
PUT
  cat >"$cgi/get" <<'GET'
#!/bin/bash
rows=$(psql -qAtX office -c 'SELECT text FROM rows ORDER BY id' 2>/dev/null) || { printf 'Status: 503\r\n\r\n'; exit; }
printf 'Content-Type: text/plain\r\n\r\n'
[ -z "$rows" ] || printf '%s\n' "$rows"
GET
  cat >"$cgi/check" <<'CHECK'
#!/bin/bash
printf 'Content-Type: text/plain\r\n\r\n'
psql -qAtX office -c "SELECT count(*), md5(string_agg(id || name || notes, ',' ORDER BY id)) FROM patients"
CHECK
  chmod 755 "$cgi"/*
}

recipe=$(cat "$(readlink -f "$0")" <(echo "${PACKAGES:-} $layout") | sha256sum | cut -c1-16)
archive=$cache/debian-$recipe.tar.zst
if [ -f "$archive" ]; then
  mkdir -p "$root"
  tar --zstd --xattrs --numeric-owner -xf "$archive" -C "$root"
else
  install_debian
  mkdir -p "$cache"
  tar --use-compress-program='zstd -1 -T0' --xattrs --numeric-owner -cf "$archive.part" -C "$root" .
  find "$cache" -name 'debian-*.tar.zst' -mtime +14 -delete  # archives of older recipes
  mv -f "$archive.part" "$archive"
fi
echo "$name" >"$root/etc/hostname"
if [ "$layout" = lvm ]; then
  assemble_lvm_disk "$root" "$out" "$size"
else
  assemble_disk "$root" "$out" "$size"
fi
[ -z "${SUDO_UID:-}" ] || chown "$SUDO_UID:${SUDO_GID:-$SUDO_UID}" "$out"
