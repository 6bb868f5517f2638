#!/bin/sh
# ccnode-device against a real kernel: one line of its answers per line, "worker NAME: {…}". The test is test_worker.py.
. /payload/lib.sh
mkdir -p /run /lib64
# the device cgroup that a container runtime gives to a container that is not privileged: no VFIO node
mkdir -p /cgroup && mount -t cgroup -o devices none /cgroup && mkdir /cgroup/container
echo a >/cgroup/container/devices.deny
echo 'c 1:* rwm' >/cgroup/container/devices.allow
cgroup=/cgroup

run() { # run NAME TARGET STEPS… : the steps, one worker
    name=$1 target=$2
    shift 2
    for step in "$@"; do echo "$step"; done |
        ASAN_OPTIONS=detect_leaks=0 sh -c 'echo 0 >$2/cgroup.procs && exec /payload/ccnode-device $1' - "$target" "$cgroup" 2>&1 |
        while IFS= read -r line; do echo "worker $name: $line"; done
}
switch() { run "$1" "$2" query unbind wake "stage $3" "check-staged $3" reset wait-boot "verify $3" sleep "bind auto" query; }
power() { echo "worker power: control $(cat /sys/bus/pci/devices/$1/power/control) driver $(basename "$(readlink /sys/bus/pci/devices/$1/driver)")"; }

B200=0000:1a:00.0
switch h100-on $G on
power $G
switch b200-on $B200 on
switch ls10-ppcie $W ppcie
switch h100-ppcie $G ppcie

# someone has it: by the device, and by the group alone
keep device cont group setc iommu dev info rd=0
echo "worker holder: $holder"
run held $G query unbind reset "stage off"
run held-node node holders
gone
keep group cont group
echo "worker holder: $holder"
run held-group $G unbind reset
cgroup=/cgroup/container
run held-group-container $G unbind reset
cgroup=/cgroup
gone

# an unbind that waits for its user: no driver link, but not free
keep unbinding cont group setc iommu dev info rd=0
echo $G >/sys/bus/pci/drivers/vfio-pci/unbind &
writer=$!
while [ -e $D/driver ]; do sleep 0.1; done
echo "worker holder: $holder"
run held-unbinding $G query reset "stage off"
gone
wait $writer

run sbr $G "reset sbr" wait-boot "reset flr" wait-boot
echo "worker methods: $(cat /sys/bus/pci/devices/$G/reset_method)"
run remove $G remove
run rescan node rescan "load-module vfio-pci"
run back $G query "bind auto"

echo integrity >/sys/kernel/security/lockdown
switch lockdown-off $G off
run lockdown-unbound $W unbind query
cgroup=/cgroup/container
run lockdown-container $G query
run free-container $G unbind
exit 0
