package runtime

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	goruntime "runtime"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Network gives pods their network namespaces.
type Network struct {
	// Bridge to which pods are attached, and its address, which is their gateway.
	Bridge  string
	Gateway netip.Addr
	// Prefix is the length of the network's prefix.
	Prefix int
	// First and Last address for pods.
	First, Last netip.Addr

	mutex sync.Mutex
	used  map[netip.Addr]bool
	next  netip.Addr
}

// allocate takes the next free address, in turn, so that an address is not used again soon.
func (n *Network) allocate() (netip.Addr, error) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	if n.used == nil {
		n.used, n.next = map[netip.Addr]bool{}, n.First
	}
	for start := n.next; ; {
		candidate := n.next
		if n.next = candidate.Next(); n.next.Compare(n.Last) > 0 {
			n.next = n.First
		}
		if !n.used[candidate] {
			n.used[candidate] = true
			return candidate, nil
		}
		if n.next == start {
			return netip.Addr{}, fmt.Errorf("all pod addresses from %s to %s are in use", n.First, n.Last)
		}
	}
}

func (n *Network) release(address netip.Addr) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	delete(n.used, address)
}

// hardwareAddress is derived from the IP address: whoever gets an address again later is still found under it.
func hardwareAddress(address netip.Addr) net.HardwareAddr {
	ip := address.As4()
	return net.HardwareAddr{0x02, 0x50, ip[0], ip[1], ip[2], ip[3]}
}

func linkName(address netip.Addr) string {
	ip := address.As4()
	return fmt.Sprintf("pod%08x", binary.BigEndian.Uint32(ip[:]))
}

// attach makes a network namespace with an address on the bridge. It lives as long as the returned file is open or a
// process is in it; so nothing of it is left when the node dies.
func (n *Network) attach(sysctls map[string]string) (namespace *os.File, address netip.Addr, err error) {
	address, err = n.allocate()
	if err != nil {
		return nil, address, err
	}
	defer func() {
		if err != nil {
			n.release(address)
			if namespace != nil {
				err = errors.Join(err, namespace.Close())
			}
		}
	}()
	if namespace, err = newNamespace(sysctls); err != nil {
		return nil, address, fmt.Errorf("network namespace: %w", err)
	}
	bridge, err := netlink.LinkByName(n.Bridge)
	if err != nil {
		return nil, address, fmt.Errorf("bridge %s: %w", n.Bridge, err)
	}
	// A link of this name can only be what is left of a namespace that is about to vanish.
	if stale, err := netlink.LinkByName(linkName(address)); err == nil {
		if err := netlink.LinkDel(stale); err != nil {
			return nil, address, fmt.Errorf("remove stale link %s: %w", linkName(address), err)
		}
	}
	attributes := netlink.NewLinkAttrs()
	attributes.Name = linkName(address)
	attributes.MasterIndex = bridge.Attrs().Index
	attributes.Flags = net.FlagUp
	pair := &netlink.Veth{
		LinkAttrs:        attributes,
		PeerName:         "eth0",
		PeerHardwareAddr: hardwareAddress(address),
		PeerNamespace:    netlink.NsFd(int(namespace.Fd())),
	}
	if err := netlink.LinkAdd(pair); err != nil {
		return nil, address, fmt.Errorf("add link %s: %w", attributes.Name, err)
	}
	if err := n.configure(namespace, address); err != nil {
		return nil, address, fmt.Errorf("configure eth0: %w", err)
	}
	return namespace, address, nil
}

func (n *Network) configure(namespace *os.File, address netip.Addr) error {
	handle, err := netlink.NewHandleAt(netns.NsHandle(namespace.Fd()))
	if err != nil {
		return err
	}
	defer handle.Close()
	for _, name := range []string{"lo", "eth0"} {
		link, err := handle.LinkByName(name)
		if err != nil {
			return err
		}
		if name == "eth0" {
			ip := &netlink.Addr{IPNet: &net.IPNet{IP: address.AsSlice(), Mask: net.CIDRMask(n.Prefix, 32)}}
			if err := handle.AddrAdd(link, ip); err != nil {
				return err
			}
		}
		if err := handle.LinkSetUp(link); err != nil {
			return err
		}
	}
	return handle.RouteAdd(&netlink.Route{Gw: n.Gateway.AsSlice()})
}

// detach removes a pod's link and gives its address back.
func (n *Network) detach(namespace *os.File, address netip.Addr) error {
	if link, err := netlink.LinkByName(linkName(address)); err == nil {
		if err := netlink.LinkDel(link); err != nil {
			return fmt.Errorf("remove link of %s: %w", address, err)
		}
	}
	n.release(address)
	return namespace.Close()
}

// newNamespace makes an empty network namespace and sets its sysctls.
func newNamespace(sysctls map[string]string) (*os.File, error) {
	type result struct {
		file *os.File
		err  error
	}
	done := make(chan result)
	go func() {
		// Never unlocked: the thread, which is in the new namespace, ends with this goroutine.
		goruntime.LockOSThread()
		file, err := func() (*os.File, error) {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return nil, err
			}
			if err := writeSysctls(sysctls); err != nil {
				return nil, err
			}
			return os.Open("/proc/thread-self/ns/net")
		}()
		done <- result{file, err}
	}()
	r := <-done
	return r.file, r.err
}

func writeSysctls(sysctls map[string]string) error {
	// What container runtimes set too: unprivileged programs may listen on low ports and send pings. The group range
	// can hold only the one group that exists here.
	all := map[string]string{"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 0"}
	for name, value := range sysctls {
		if !strings.HasPrefix(name, "net.") {
			return fmt.Errorf("sysctl %s: the sandbox's nodes set only those of the network (net.*)", name)
		}
		all[name] = value
	}
	for name, value := range all {
		path := "/proc/sys/" + strings.ReplaceAll(name, ".", "/")
		if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
			return fmt.Errorf("sysctl %s: %w", name, err)
		}
	}
	return nil
}

// dial connects to a port inside a pod.
func dial(namespace *os.File, port int32) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result)
	go func() {
		goruntime.LockOSThread() // never unlocked, as above
		if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- result{nil, err}
			return
		}
		conn, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
		done <- result{conn, err}
	}()
	r := <-done
	return r.conn, r.err
}
