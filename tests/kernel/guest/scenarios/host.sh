#!/bin/sh
# ccnode on a host with a real kernel: the pages of docs/host.md for one machine, without Kubernetes. Every command's JSON is
# printed behind a line "@ NAME STATUS".
vp=/payload/vp
G=0000:18:00.0
mkdir -p /run/ccnode /var/lib /var/run /etc
t() {
    name=$1
    shift
    ccnode "$@" -o json >/tmp/out 2>/tmp/err
    echo "@ $name $?"
    cat /tmp/out
    sed 's/^/# /' /tmp/err
}
t list list
t dry-run set-mode on --dry-run
t bind bind
t on set-mode on
t after list
t again set-mode on
t cdi-write cdi write
mkdir -p /etc/cdi
t cdi-check cdi check
for f in /run/cdi/*.yaml /var/run/cdi/*.yaml; do [ ! -f "$f" ] || echo "# file $f"; done
# a guest that has the device: group, container, device
$vp $G cont group setc iommu dev sleep=60000 >/dev/null 2>&1 &
holder=$!
n=0
while [ "$(cat /sys/bus/pci/devices/$G/enable)" = 0 ] && [ $n -lt 600 ]; do
    sleep 0.2
    n=$((n + 1))
done
echo "@ holder 0"
echo "{\"pid\": $holder}"
t held list
t refused set-mode off $G
kill $holder
wait $holder 2>/dev/null
t off set-mode off
t unbind unbind $G
t preflight preflight
echo integrity >/sys/kernel/security/lockdown
t locked-unbound set-mode on $G
t locked-bind bind $G
t locked-on set-mode on $G
echo "@ end 0"
exit 0
