# Shared by make-tiny.sh and make-debian.sh: turns a folder with a root file system into a disk
# that boots by BIOS and by UEFI, without mounts, loop devices or a partition parser.
#
# The disk: GPT with 1 BIOS boot partition, 2 EFI system partition, 3 ext4 root (label "root").
# Callers source this file, fill the folder that work_folder made, and call assemble_disk.
# Everything downloaded stays in $cache, so that a second run needs no network.

set -euo pipefail

cache=${XDG_CACHE_HOME:-$HOME/.cache}/reclo/servers
kSectorBytes=512
kBiosBootStart=2048     # sectors; each partition starts on a MiB
kEspStart=4096
kEspSectors=69632       # 34 MiB: the smallest FAT32 that firmware and mkfs agree on
kRootStart=$((kEspStart + kEspSectors))

die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# work_folder: makes the temporary folder $work, removed when the script ends. Who makes a server at
# the same time waits: both would fill the cache.
work_folder() {
  mkdir -p "$cache"
  exec 9>"$cache/lock"
  flock 9
  work=$(mktemp -d "${TMPDIR:-/tmp}/reclo-server.XXXXXX")
  trap 'rm -rf "$work"' EXIT
}

# debian_mirror: the first Debian archive in the machine's own apt configuration.
debian_mirror() {
  local mirror
  mirror=$(apt-get indextargets --format '$(CREATED_BY) $(REPO_URI) $(RELEASE)' 2>/dev/null |
    awk '$1 == "Packages" && ($3 == "bookworm" || $3 == "stable") && /debian\// && !/security/ {
           print $2; exit }')
  case $mirror in
    mirror+file:*)  # Debian's cloud images list their mirrors in a file
      mirror=$(sed -n 's/^\(https\?:[^[:space:]]*\).*/\1/p' "${mirror#mirror+file:}" | head -n 1) ;;
  esac
  [ -n "$mirror" ] || die "apt knows no mirror of Debian bookworm: check /etc/apt/sources.list*"
  printf '%s\n' "${mirror%/}"
}

# cloud_kernel_package: the package that the metapackage linux-image-cloud-amd64 stands for.
cloud_kernel_package() {
  apt-cache depends linux-image-cloud-amd64 2>/dev/null |
    awk '$1 == "Depends:" && $2 ~ /^linux-image-[0-9]/ { print $2; exit }'
}

# fetch_cloud_kernel: puts Debian's cloud kernel, unpacked, into $cache/kernel and prints the path.
# A kernel that is there already is used as it is, however old: a sample needs no newest one.
fetch_cloud_kernel() {
  local package unpacked=$cache/kernel
  if [ ! -f "$unpacked/.complete" ]; then
    package=$(cloud_kernel_package)
    if [ -z "$package" ] && [ "$(id -u)" = 0 ]; then
      apt-get -qq update >&2 || true  # a machine whose package lists were cleaned away
      package=$(cloud_kernel_package)
    fi
    [ -n "$package" ] || die "apt does not know linux-image-cloud-amd64: run 'apt-get update'"
    mkdir -p "$work/kernel-download"
    (cd "$work/kernel-download" && apt-get -qq download "$package" >apt.log 2>&1) ||
      die "apt-get download $package failed: $(tail -n 1 "$work/kernel-download/apt.log")"
    mkdir -p "$cache"
    rm -rf "$unpacked" "$unpacked.part"
    dpkg-deb -x "$work"/kernel-download/*.deb "$unpacked.part"
    touch "$unpacked.part/.complete"
    mv -T "$unpacked.part" "$unpacked"
  fi
  printf '%s\n' "$unpacked"
}

# write_grub_config ROOT: boots /boot/vmlinuz at once, with its messages on the serial console.
# no_timer_check: on a busy host an emulated CPU may fail the kernel's timing test, and it panics.
write_grub_config() {
  mkdir -p "$1/boot/grub"
  cat >"$1/boot/grub/grub.cfg" <<'GRUB'
set timeout=0
search --no-floppy --label root --set=root
linux /boot/vmlinuz root=LABEL=root ro console=tty0 console=ttyS0,115200 panic=-1 no_timer_check quiet
initrd /boot/initrd.img
boot
GRUB
}

# poke FILE OFFSET HEX: overwrites bytes in place.
poke() {
  local escaped
  escaped=$(sed 's/../\\x&/g' <<<"$3")
  printf '%b' "$escaped" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# little_endian VALUE BYTES: hexadecimal digits, lowest byte first.
little_endian() {
  local value=$1 i
  for ((i = 0; i < $2; i++)); do
    printf '%02x' $(((value >> (8 * i)) & 255))
  done
}

# install_bios_grub DISK: boot.img in sector 0, core.img in the BIOS boot partition. grub-install
# would need a mounted disk; what it does is write two block addresses into the images.
install_bios_grub() {
  local disk=$1 core=$work/core.img boot=$work/boot.img core_sectors
  grub-mkimage -O i386-pc -o "$core" -p /boot/grub -c "$work/early.cfg" \
    biosdisk part_gpt ext2 search search_label configfile linux normal boot serial
  head -c 440 /usr/lib/grub/i386-pc/boot.img >"$boot"   # the rest of sector 0 is the MBR's table
  core_sectors=$((($(stat -c %s "$core") + kSectorBytes - 1) / kSectorBytes))
  [ "$core_sectors" -le $((kEspStart - kBiosBootStart)) ] || die "GRUB's core image is too big"
  # boot.img: the address of core.img's first sector, and no check of the drive number.
  poke "$boot" 92 "$(little_endian "$kBiosBootStart" 8)"
  poke "$boot" 102 9090
  # core.img's first sector: where the others are and how many.
  poke "$core" 500 "$(little_endian $((kBiosBootStart + 1)) 8)$(little_endian $((core_sectors - 1)) 2)"
  dd if="$boot" of="$disk" conv=notrunc status=none
  dd if="$core" of="$disk" bs=$kSectorBytes seek=$kBiosBootStart conv=notrunc status=none
}

# make_uefi_loader OUT MODULES: GRUB as one EFI program that goes on with $work/early.cfg.
make_uefi_loader() {
  grub-mkstandalone -O x86_64-efi -o "$1" --modules="$2" --locales='' --fonts='' --themes='' \
    "boot/grub/grub.cfg=$work/early.cfg" >/dev/null
}

# install_uefi_grub DISK: the fallback loader \EFI\BOOT\BOOTX64.EFI in the EFI system partition.
install_uefi_grub() {
  local disk=$1 esp=$work/esp.img loader=$work/BOOTX64.EFI
  make_uefi_loader "$loader" 'part_gpt ext2 search search_label configfile linux normal boot'
  truncate -s $((kEspSectors * kSectorBytes)) "$esp"
  mkfs.vfat -F 32 -n ESP "$esp" >/dev/null
  mmd -i "$esp" ::/EFI ::/EFI/BOOT
  mcopy -i "$esp" "$loader" ::/EFI/BOOT/BOOTX64.EFI
  dd if="$esp" of="$disk" bs=1M seek=$((kEspStart * kSectorBytes >> 20)) conv=notrunc,sparse status=none
}

# assemble_disk ROOT OUT SIZE: a disk of SIZE (as truncate -s takes it) with ROOT's files.
# It is written beside OUT and renamed, so OUT is whole or not there.
assemble_disk() {
  local root=$1 out=$2 size=$3 part root_bytes
  part=$out.part
  printf '%s\n' 'search --no-floppy --label root --set=root' \
    'set prefix=($root)/boot/grub' 'configfile ($root)/boot/grub/grub.cfg' >"$work/early.cfg"
  write_grub_config "$root"
  mkdir -p "$(dirname "$out")"
  rm -f "$part"
  truncate -s "$size" "$part"
  sfdisk -q "$part" <<PARTITIONS
label: gpt
start=$kBiosBootStart, size=$((kEspStart - kBiosBootStart)), type=21686148-6449-6E6F-744E-656564454649
start=$kEspStart, size=$kEspSectors, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B
start=$kRootStart, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4
PARTITIONS
  # The backup GPT takes the last 33 sectors; one MiB keeps the file system whole blocks.
  root_bytes=$(($(stat -c %s "$part") - kRootStart * kSectorBytes - 1024 * 1024))
  mke2fs -q -F -t ext4 -L root -E offset=$((kRootStart * kSectorBytes)) -d "$root" \
    "$part" $((root_bytes / 4096 * 4))k
  install_bios_grub "$part"
  install_uefi_grub "$part"
  mv -f "$part" "$out"
  printf '%s: %s MiB used of %s\n' "$out" "$(du -m "$out" | cut -f1)" "$size"
}

# assemble_lvm_disk ROOT OUT SIZE: GPT with 1 EFI system partition, where GRUB has only the place that
# its installer gives it, and 2 the LVM volume group "office" with ROOT's files in "root".
# The file system is made as a plain file and laid where LVM puts the first extent of its only
# volume: one MiB behind the beginning of the partition.
assemble_lvm_disk() {
  local root=$1 out=$2 size=$3 part esp=$work/esp.img pv_start root_bytes
  command -v guestfish >/dev/null || die "guestfish is missing: run ./setup --test"
  part=$out.part
  printf '%s\n' 'search --no-floppy --label root --set=root' \
    'set prefix=($root)/boot/grub' 'configfile ($root)/boot/grub/grub.cfg' >"$work/early.cfg"
  write_grub_config "$root"
  sed -i 's|root=LABEL=root|root=/dev/mapper/office-root|; s| console=tty0 console=ttyS0,115200||' \
    "$root/boot/grub/grub.cfg"
  mkdir -p "$(dirname "$out")"
  rm -f "$part"
  truncate -s "$size" "$part"
  pv_start=$((kBiosBootStart + kEspSectors))
  sfdisk -q "$part" <<PARTITIONS
label: gpt
start=$kBiosBootStart, size=$kEspSectors, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B
start=$pv_start, type=E6D6D379-F507-44C2-A23C-238F2A3DF928
PARTITIONS
  # By TCG: a /dev/kvm may be there and not work.
  LIBGUESTFS_BACKEND=direct LIBGUESTFS_BACKEND_SETTINGS=force_tcg \
    guestfish --format=raw -a "$part" <<'LVM' >/dev/null || die "guestfish could not make the volumes"
run
pvcreate /dev/sda2
vgcreate office /dev/sda2
lvcreate-free root office 100
LVM
  # Extents of 4 MiB, and two MiB at the end for the backup GPT and the rounding.
  root_bytes=$((($(stat -c %s "$part") - pv_start * kSectorBytes - 2 * 1024 * 1024) / 4194304 * 4194304 - 4194304))
  mke2fs -q -F -t ext4 -L root -E offset=$((pv_start * kSectorBytes + 1024 * 1024)) -d "$root" \
    "$part" $((root_bytes / 4096 * 4))k
  make_uefi_loader "$work/grubx64.efi" \
    'part_gpt lvm ext2 search search_label configfile linux normal boot'
  truncate -s $((kEspSectors * kSectorBytes)) "$esp"
  mkfs.vfat -F 32 -n ESP "$esp" >/dev/null
  mmd -i "$esp" ::/EFI ::/EFI/debian
  mcopy -i "$esp" "$work/grubx64.efi" ::/EFI/debian/grubx64.efi
  dd if="$esp" of="$part" bs=1M seek=$((kBiosBootStart * kSectorBytes >> 20)) conv=notrunc,sparse status=none
  mv -f "$part" "$out"
  printf '%s: %s MiB used of %s\n' "$out" "$(du -m "$out" | cut -f1)" "$size"
}
