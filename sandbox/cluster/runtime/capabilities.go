package runtime

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

var capabilityNumbers = map[string]int{
	"AUDIT_CONTROL": unix.CAP_AUDIT_CONTROL, "AUDIT_READ": unix.CAP_AUDIT_READ, "AUDIT_WRITE": unix.CAP_AUDIT_WRITE,
	"BLOCK_SUSPEND": unix.CAP_BLOCK_SUSPEND, "BPF": unix.CAP_BPF, "CHECKPOINT_RESTORE": unix.CAP_CHECKPOINT_RESTORE,
	"CHOWN": unix.CAP_CHOWN, "DAC_OVERRIDE": unix.CAP_DAC_OVERRIDE, "DAC_READ_SEARCH": unix.CAP_DAC_READ_SEARCH,
	"FOWNER": unix.CAP_FOWNER, "FSETID": unix.CAP_FSETID, "IPC_LOCK": unix.CAP_IPC_LOCK, "IPC_OWNER": unix.CAP_IPC_OWNER,
	"KILL": unix.CAP_KILL, "LEASE": unix.CAP_LEASE, "LINUX_IMMUTABLE": unix.CAP_LINUX_IMMUTABLE,
	"MAC_ADMIN": unix.CAP_MAC_ADMIN, "MAC_OVERRIDE": unix.CAP_MAC_OVERRIDE, "MKNOD": unix.CAP_MKNOD,
	"NET_ADMIN": unix.CAP_NET_ADMIN, "NET_BIND_SERVICE": unix.CAP_NET_BIND_SERVICE,
	"NET_BROADCAST": unix.CAP_NET_BROADCAST, "NET_RAW": unix.CAP_NET_RAW, "PERFMON": unix.CAP_PERFMON,
	"SETFCAP": unix.CAP_SETFCAP, "SETGID": unix.CAP_SETGID, "SETPCAP": unix.CAP_SETPCAP, "SETUID": unix.CAP_SETUID,
	"SYS_ADMIN": unix.CAP_SYS_ADMIN, "SYS_BOOT": unix.CAP_SYS_BOOT, "SYS_CHROOT": unix.CAP_SYS_CHROOT,
	"SYS_MODULE": unix.CAP_SYS_MODULE, "SYS_NICE": unix.CAP_SYS_NICE, "SYS_PACCT": unix.CAP_SYS_PACCT,
	"SYS_PTRACE": unix.CAP_SYS_PTRACE, "SYS_RAWIO": unix.CAP_SYS_RAWIO, "SYS_RESOURCE": unix.CAP_SYS_RESOURCE,
	"SYS_TIME": unix.CAP_SYS_TIME, "SYS_TTY_CONFIG": unix.CAP_SYS_TTY_CONFIG, "SYSLOG": unix.CAP_SYSLOG,
	"WAKE_ALARM": unix.CAP_WAKE_ALARM,
}

// defaultCapabilities are those that container runtimes leave to a container unless told otherwise.
var defaultCapabilities = []string{
	"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW",
	"SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
}

// capabilitiesOf a container: the numbers that it keeps, or nil for all of them. They are capabilities in the user
// namespace of the sandbox, and mean nothing on the host.
func capabilitiesOf(security *runtimeapi.LinuxContainerSecurityContext) (*[]int, error) {
	if security.GetPrivileged() {
		return nil, nil
	}
	kept := map[string]bool{}
	for _, name := range defaultCapabilities {
		kept[name] = true
	}
	change := func(names []string, keep bool) error {
		for _, name := range names {
			name = strings.TrimPrefix(strings.ToUpper(name), "CAP_")
			if name == "ALL" {
				for each := range capabilityNumbers {
					kept[each] = keep
				}
				continue
			}
			if _, known := capabilityNumbers[name]; !known {
				return fmt.Errorf("unknown capability %q", name)
			}
			kept[name] = keep
		}
		return nil
	}
	add, drop := security.GetCapabilities().GetAddCapabilities(), security.GetCapabilities().GetDropCapabilities()
	// ALL comes first wherever it stands: dropping ALL and adding one leaves that one.
	isAll := func(name string) bool { return strings.EqualFold(name, "ALL") }
	first := func(names []string) []string {
		return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !isAll(n) })
	}
	rest := func(names []string) []string { return slices.DeleteFunc(slices.Clone(names), isAll) }
	for _, step := range []struct {
		names []string
		keep  bool
	}{{first(add), true}, {first(drop), false}, {rest(add), true}, {rest(drop), false}} {
		if err := change(step.names, step.keep); err != nil {
			return nil, err
		}
	}
	numbers := []int{}
	for name, keep := range kept {
		if keep {
			numbers = append(numbers, capabilityNumbers[name])
		}
	}
	slices.Sort(numbers)
	return &numbers, nil
}
