package node

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	goruntime "runtime"
	"strings"
	"time"

	cadvisorv1 "github.com/google/cadvisor/info/v1"
	cadvisorv2 "github.com/google/cadvisor/info/v2"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/kubernetes/pkg/kubelet/cadvisor"
)

// machine tells the kubelet what the node has: processors and memory as the flags say, file systems as they are. It
// measures no use of processors and memory.
type machine struct {
	info *cadvisorv1.MachineInfo
	dir  string
}

var _ cadvisor.Interface = &machine{}

func newMachine(cpu int, memory, providerID, dir string) (*machine, error) {
	quantity, err := resource.ParseQuantity(memory)
	if err != nil {
		return nil, fmt.Errorf("--memory: %q: %w", memory, err)
	}
	bootID, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, err
	}
	parts := strings.Split(providerID, "/")
	instance := parts[len(parts)-1]
	return &machine{dir: dir, info: &cadvisorv1.MachineInfo{
		Timestamp:        time.Now(),
		NumCores:         cpu,
		NumPhysicalCores: cpu,
		NumSockets:       1,
		MemoryCapacity:   uint64(quantity.Value()),
		MachineID:        instance,
		SystemUUID:       instance,
		// The kernel is the host's, but the node was switched on when this process started.
		BootID: fmt.Sprintf("%s-%d", strings.TrimSpace(string(bootID)), time.Now().UnixNano()),
	}}, nil
}

func (m *machine) Start() error { return nil }

func (m *machine) MachineInfo() (*cadvisorv1.MachineInfo, error) { return m.info, nil }

func (m *machine) VersionInfo() (*cadvisorv1.VersionInfo, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return nil, err
	}
	return &cadvisorv1.VersionInfo{
		KernelVersion:      unix.ByteSliceToString(name.Release[:]),
		ContainerOsVersion: "Sandbox on " + goruntime.GOOS,
	}, nil
}

func (m *machine) ContainerInfoV2(string, cadvisorv2.RequestOptions) (map[string]cadvisorv2.ContainerInfo, error) {
	return map[string]cadvisorv2.ContainerInfo{"/": {Spec: cadvisorv2.ContainerSpec{CreationTime: m.info.Timestamp}}}, nil
}

func (m *machine) GetRequestedContainersInfo(string, cadvisorv2.RequestOptions) (map[string]*cadvisorv1.ContainerInfo, error) {
	return map[string]*cadvisorv1.ContainerInfo{"/": {}}, nil
}

func (m *machine) ImagesFsInfo(context.Context) (cadvisorv2.FsInfo, error) {
	return m.GetDirFsInfo(m.dir)
}

func (m *machine) RootFsInfo() (cadvisorv2.FsInfo, error) { return m.GetDirFsInfo(m.dir) }

func (m *machine) ContainerFsInfo(context.Context) (cadvisorv2.FsInfo, error) {
	return m.GetDirFsInfo(m.dir)
}

func (m *machine) GetDirFsInfo(path string) (cadvisorv2.FsInfo, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(path, &stat); err != nil {
		return cadvisorv2.FsInfo{}, fmt.Errorf("file system of %s: %w", path, err)
	}
	size := uint64(stat.Bsize)
	inodes, free := stat.Files, stat.Ffree
	return cadvisorv2.FsInfo{
		Timestamp:  time.Now(),
		Device:     "sandbox",
		Mountpoint: "/",
		Capacity:   stat.Blocks * size,
		Available:  stat.Bavail * size,
		Usage:      (stat.Blocks - stat.Bfree) * size,
		Inodes:     &inodes,
		InodesFree: &free,
	}, nil
}

// addAddress gives the bridge the node's address, unless it has it.
func addAddress(bridge, address string) error {
	ip, err := netip.ParseAddr(address)
	if err != nil || !ip.Is4() {
		return fmt.Errorf("--node-ip: %q is not an IPv4 address", address)
	}
	link, err := netlink.LinkByName(bridge)
	if err != nil {
		return fmt.Errorf("--bridge %s: %w", bridge, err)
	}
	// AddrReplace does nothing where the address is there with the same prefix.
	err = netlink.AddrReplace(link, &netlink.Addr{IPNet: &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(32, 32)}})
	if err != nil {
		return fmt.Errorf("add %s to %s: %w", address, bridge, err)
	}
	return nil
}
