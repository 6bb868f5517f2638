#!/bin/sh
# the guest sees the five devices, each in its own IOMMU group, and NVIDIA's registers behind resource0
. /payload/lib.sh
lspci 2>/dev/null || for d in /sys/bus/pci/devices/*; do echo "$(basename $d) $(cat $d/vendor):$(cat $d/device) class $(cat $d/class)"; done
$vp $G sopen smap srd=0 srd=0x1182cc
st
bindv $G; st
$vp $G $V rd=0 map mrd=0
exit 0
