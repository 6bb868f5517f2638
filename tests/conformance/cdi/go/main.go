// cdiread reads CDI directories as a container runtime does, with the CDI
// project's own package, and prints one JSON object:
//
//	{"errors": {"FILE": ["…"]}, "devices": {"vendor/class=name": ["/dev/…"]}}
//
// A file with an error is also what makes Kata's shims refuse every sandbox.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	oci "github.com/opencontainers/runtime-spec/specs-go"
	"tags.cncf.io/container-device-interface/pkg/cdi"
)

type answer struct {
	Errors  map[string][]string `json:"errors"`
	Devices map[string][]string `json:"devices"`
}

// nodes of a device, from the specification: injection would need them to exist here.
func nodes(device *cdi.Device) []string {
	list := []string{}
	for _, node := range device.ContainerEdits.DeviceNodes {
		list = append(list, node.Path)
	}
	return list
}

// inject says whether an empty container could be given the devices.
func inject(cache *cdi.Cache, names []string) error {
	_, err := cache.InjectDevices(&oci.Spec{Process: &oci.Process{}, Linux: &oci.Linux{}}, names...)
	return err
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: cdiread DIR… [-- DEVICE…]")
		os.Exit(2)
	}
	var dirs, names []string
	for i, arg := range os.Args[1:] {
		if arg == "--" {
			names = os.Args[i+2:]
			break
		}
		dirs = append(dirs, arg)
	}
	cache, err := cdi.NewCache(cdi.WithSpecDirs(dirs...), cdi.WithAutoRefresh(false))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_ = cache.Refresh() // its error is the sum of those below
	result := answer{Errors: map[string][]string{}, Devices: map[string][]string{}}
	for file, list := range cache.GetErrors() {
		for _, e := range list {
			result.Errors[file] = append(result.Errors[file], e.Error())
		}
	}
	for _, name := range cache.ListDevices() {
		result.Devices[name] = nodes(cache.GetDevice(name))
	}
	if len(names) > 0 {
		if err := inject(cache, names); err != nil {
			result.Errors["injection"] = []string{err.Error()}
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
