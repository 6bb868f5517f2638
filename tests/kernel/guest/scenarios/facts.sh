#!/bin/sh
# What Linux does with PCI devices, vfio-pci and resource0, as one "fact: answer" line each: in a guest with a real kernel the
# answers are recorded (../facts.expected); on the simulated node the same script must give the same answers.
# Only answers that do not depend on time, numbers of groups or addresses of memory. vp: ../vp.c
vp=${VP:-/payload/vp}
S=${SYS:-/sys}/bus/pci
G=0000:18:00.0 D=$S/devices/0000:18:00.0
O=0000:19:00.0

quiet() { sed -e 's/  *([0-9.]* ms)$//' -e 's/fd [0-9]*$/fd/' -e 's#/dev/vfio/[0-9]*:#/dev/vfio/N:#'; }
fact() { echo "$1: $(cat)"; }
# p WORDS: each word's answer as a fact of section $at
p() { "$vp" "$@" 2>&1 | quiet | while IFS= read -r line; do echo "$at: $line"; done; }
driver() { d=$(readlink "$S/devices/$1/driver") && basename "$d" || echo none; }
look() { echo "$at: driver $(driver $G), power_state $(cat $D/power_state), control $(cat $D/power/control), enable $(cat $D/enable), override $(cat $D/driver_override)"; }
# w FILE TEXT: a write's errno name through vp (a shell would only say "write error")
w() { "$vp" $G "sw=$1,$2" 2>&1 | quiet | sed "s#.*: #$at: write '$2' to $(basename "$1"): #"; }

# hold NAME WORDS: a process that does WORDS and then keeps what it has, until "ends NAME"; a word "until=$T/…" may stand between
T=$(mktemp -d)
trap 'rm -rf "$T"' EXIT
there() { # there FILE [PID]: when the process got that far, or has ended
    while [ ! -e "$1" ] && { [ -z "${2:-}" ] || kill -0 "$2" 2>/dev/null; }; do sleep 0.1; done
}
hold() {
    name=$1
    shift
    "$vp" $G "$@" "until=$T/$name" >/dev/null 2>&1 &
    holder=$!
    there "$T/$name.here" $holder
}
ends() {
    : >"$T/$1"
    wait $holder
}

at=fresh
look
p $G sopen smap srd=0 sunmap
p $G sopen spread
p $G sr=reset_method
w $S/drivers/vfio-pci/bind $G
w $S/drivers/vfio-pci/unbind $G
w $S/drivers_probe 0000:99:00.0

at=reset
for text in 0 2 x; do w reset $text; done
w reset 1
w reset_method bogus
w reset_method pm
w reset_method bus
p $G sr=reset_method
w reset_method flr
w reset_method default

at=override
w driver_override vfio-pci
w $S/drivers_probe $G
look
w $S/drivers/vfio-pci/bind $G
w $S/drivers_probe $G
w $S/drivers/vfio-pci/unbind $O

at=bound
p $G sopen smap sunmap
w power/control on
look
p $G sopen smap sunmap
w power/control bogus
w power/control auto

at=vfio
p $G group
p $G cont group setc iommu dev closedev close
p $G cont group dev setc dev iommu
p $G cont iommu
p $G cont group setc iommu dev info rd=0x100000000 map mrd=0 reset close

# the device is open, nothing of its BAR was touched: vfio-pci claims a BAR at its first use
at=held-open
hold open cont group setc iommu dev
p $G group
p $G sopen smap
look
w reset_method flr
w reset 1
ends open
p $G sopen smap sunmap

at=held-used
hold used cont group setc iommu dev info rd=0
p $G sopen smap
w reset 1
ends used
w power/control on
p $G sleep=2 sopen smap srd=0x0 sunmap

# a mapping made before somebody uses the BAR through VFIO
at=revoked
"$vp" $G sleep=2 sopen smap srd=0x0 "until=$T/used-by-another" srd=0 sunmap sleep=2 sopen smap srd=0x0 >"$T/map" 2>&1 &
mapper=$!
there "$T/used-by-another.here" $mapper
"$vp" $G cont group setc iommu dev info rd=0 close >/dev/null 2>&1
: >"$T/used-by-another"
wait $mapper
quiet <"$T/map" | sed 's/^/revoked: /'
w power/control auto

at=unbind-held
hold unbind cont group setc iommu dev
echo $G >$S/drivers/vfio-pci/unbind 2>/dev/null &
writer=$!
while [ -e "$S/devices/$G/driver" ] && kill -0 $writer 2>/dev/null; do sleep 0.1; done
sleep 0.5
echo "$at: the writer $(kill -0 $writer 2>/dev/null && echo waits || echo returned), driver $(driver $G)"
p $G group
w $S/drivers_probe $G
ends unbind
wait $writer
look

at=clear
printf '\n' >$D/driver_override
look
w $S/drivers_probe $G
look

at=new_id
w $S/drivers/vfio-pci/new_id "10de 22a3"
echo "$at: the NVSwitch is on $(driver 0000:1c:00.0)"
w $S/drivers/vfio-pci/new_id "10de 22a3"
w $S/drivers/vfio-pci/remove_id "10de 22a3"
w $S/drivers/vfio-pci/remove_id "10de 22a3"
w $S/drivers/vfio-pci/unbind 0000:1c:00.0

at=remove
w $S/devices/$O/driver_override vfio-pci
echo 1 >$S/devices/$O/remove
echo "$at: $([ -e $S/devices/$O ] && echo still there || echo gone)"
echo 1 >$S/rescan
echo "$at: after rescan $([ -e $S/devices/$O ] && echo there || echo missing), override $(cat $S/devices/$O/driver_override), power_state $(cat $S/devices/$O/power_state)"

at=lockdown
echo integrity >${SYS:-/sys}/kernel/security/lockdown
p $G sopen smap
w reset 1
w driver_override vfio-pci
w $S/drivers_probe $G
p $G cont group setc iommu dev info map mrd=0 close
exit 0
