# shellcheck shell=sh
G=${KT_G:-0000:18:00.0}; D=/sys/bus/pci/devices/$G; W=${KT_W:-0000:1c:00.0}
vp=/payload/vp
sec(){ read u _ </proc/uptime; echo; echo "=== $* [$u]"; dmesg -c >/dev/null; }
km(){ dmesg -c | sed 's/^/K: /'; }
st(){ [ -d $D ] || { echo "state: device is gone; dev/vfio: $(ls /dev/vfio | tr '\n' ' ')"; return; }; echo "state: drv=$(basename "$(readlink $D/driver 2>/dev/null)" 2>/dev/null) power_state=$(cat $D/power_state) rt=$(cat $D/power/runtime_status) control=$(cat $D/power/control) enable=$(cat $D/enable) cmd=$(dd if=$D/config bs=1 skip=4 count=2 2>/dev/null | hexdump -e '1/2 "%04x"') devvfio=$(ls /dev/vfio | tr '\n' ' ')"; }
bindv(){ echo vfio-pci > /sys/bus/pci/devices/$1/driver_override; echo $1 > /sys/bus/pci/drivers_probe; }
stk(){ for p in "$@"; do echo "pid $p $(cat /proc/$p/comm) state $(sed -n 's/^State:\t//p' /proc/$p/status) wchan $(cat /proc/$p/wchan)"; cat /proc/$p/stack; done; }
up(){ read u _ </proc/uptime; echo "[$u] $*"; }
# keep NAME WORDS: vp in the background, which has done WORDS now and keeps what it has until $holder is killed; gone: it is
keep(){ n=$1; shift; $vp $G "$@" until=/tmp/kept.$n >/dev/null 2>&1 & holder=$!; until [ -e /tmp/kept.$n.here ] || ! kill -0 $holder 2>/dev/null; do sleep 0.1; done; }
gone(){ kill -9 $holder; wait $holder 2>/dev/null; }
V="cont group setc iommu dev info"
host(){ echo "KT-HOST $*" > /dev/ttyS1; }
# bg NAME CMD...: run in the background, print exit code and the uptimes of start and end; chk NAME...: who is still blocked, and where in the kernel
bg(){ n=$1; shift; ( read a _ </proc/uptime; "$@" >/tmp/o.$n 2>&1; r=$?; read b _ </proc/uptime; echo "  [$n] rc $r from $a to $b: $(head -c 300 /tmp/o.$n | tr '\n' '|')" ) & echo $! >/tmp/p.$n; }
chk(){ for n in "$@"; do p=$(cat /tmp/p.$n); if [ -d /proc/$p ]; then c=$(cat /proc/$p/task/$p/children 2>/dev/null | cut -d' ' -f1); [ -n "$c" ] || c=$p; echo "  blocked: $n pid $c $(sed -n 's/^State:\t//p' /proc/$c/status) in $(sed -n '1,3s/+.*//p' /proc/$c/stack | tr '\n' ' ')"; fi; done; }
owners(){ for p in /proc/[0-9]*; do for f in $p/fd/*; do l=$(readlink $f); case $l in *vfio*|*resource[0-9]|*iommu*) echo "$f -> $l ($(cat $p/comm)) $(stat -L -c 'dev %D ino %i rdev %t:%T' $f) | $(tr '\n' ' ' < $p/fdinfo/${f##*/})";; esac; done; grep -H -E 'vfio|/resource[0-9]' $p/maps; done; }
