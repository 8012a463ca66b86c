package boot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// File descriptors with which container and exec are started, after stdin, stdout and stderr.
const (
	specFd = 3
	// Of container: where to write why it could not start. Closed, with nothing written, once the program runs.
	errorFd = 4
	// Of container, where Spec.OwnNetwork: the network namespace to enter.
	networkFd = 5
	// Of exec: a pid file descriptor of the container's first process.
	targetFd = 4
)

// Mount is a file or folder of the machine that a container sees.
type Mount struct {
	Source   string
	Target   string
	ReadOnly bool
}

// Spec is what a container is made of.
type Spec struct {
	Hostname string
	// Root is an empty folder on which the container's file system is assembled. Only the container sees the mounts.
	Root         string
	ReadOnlyRoot bool
	OwnNetwork   bool
	Mounts       []Mount
	// Image maps paths in the container to files or folders of the machine: what the image has beyond the machine's
	// own programs and libraries.
	Image map[string]string
	// Etc holds contents of files in /etc, by name.
	Etc             map[string]string
	Args            []string
	Env             []string
	Cwd             string
	Terminal        bool
	NoNewPrivileges bool
	// Capabilities are those that the program may have, by number; nil leaves all.
	Capabilities *[]int
}

// hostFolders are the parts of the machine that every container sees, read-only. /usr/local is left out: what the
// machine's owner installed by hand is no part of any image.
var hostFolders = []string{
	"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix",
	"/usr/bin", "/usr/sbin", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libx32", "/usr/libexec", "/usr/share",
	"/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/etc/alternatives", "/etc/ld.so.cache", "/etc/ld.so.conf",
	"/etc/ld.so.conf.d", "/etc/localtime", "/etc/protocols", "/etc/services", "/etc/mime.types", "/sys",
}

// emptyFolders exist in every container and can be written to unless its root file system is read-only.
var emptyFolders = []string{
	"/dev", "/etc", "/home", "/mnt", "/opt", "/proc", "/root", "/run", "/srv", "/sys", "/tmp", "/usr/local/bin",
	"/usr/local/lib", "/usr/local/sbin", "/usr/local/share", "/var/cache", "/var/lib", "/var/log", "/var/tmp",
}

var devices = []string{"null", "zero", "full", "random", "urandom", "tty"}

// runContainer becomes the first process of a container. It is started in new mount, pid, ipc and uts namespaces.
func runContainer([]string) (int, error) {
	report := os.NewFile(errorFd, "report")
	unix.CloseOnExec(errorFd)
	if err := startContainer(); err != nil {
		fmt.Fprint(report, err.Error())
		return 128, err
	}
	return 0, nil
}

func readSpec(into any) error {
	file := os.NewFile(specFd, "spec")
	defer file.Close()
	if err := json.NewDecoder(file).Decode(into); err != nil {
		return fmt.Errorf("read specification: %w", err)
	}
	return nil
}

func startContainer() error {
	var spec Spec
	if err := readSpec(&spec); err != nil {
		return err
	}
	if spec.OwnNetwork {
		if err := unix.Setns(networkFd, unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter the pod's network: %w", err)
		}
		if err := unix.Close(networkFd); err != nil {
			return err
		}
	}
	if err := unix.Sethostname([]byte(spec.Hostname)); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	unix.Umask(0)
	if err := assemble(&spec); err != nil {
		return err
	}
	unix.Umask(0o022)
	if err := os.MkdirAll(spec.Cwd, 0o755); err != nil {
		return fmt.Errorf("working directory %s: %w", spec.Cwd, err)
	}
	if err := os.Chdir(spec.Cwd); err != nil {
		return fmt.Errorf("working directory: %w", err)
	}
	if spec.Terminal {
		if err := unix.IoctlSetInt(0, unix.TIOCSCTTY, 0); err != nil {
			return fmt.Errorf("take the terminal: %w", err)
		}
	}
	path, err := lookPath(spec.Args[0], valueOf(spec.Env, "PATH"))
	if err != nil {
		return err
	}
	if err := limit(spec.Capabilities, spec.NoNewPrivileges); err != nil {
		return err
	}
	if err := syscall.Exec(path, spec.Args, spec.Env); err != nil {
		return fmt.Errorf("exec %s: %w", path, err)
	}
	return nil
}

// assemble builds the container's file system and makes it the root.
func assemble(spec *Spec) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	root := spec.Root
	if err := unix.Mount("tmpfs", root, "tmpfs", unix.MS_NODEV|unix.MS_NOSUID, "mode=755"); err != nil {
		return fmt.Errorf("mount root file system: %w", err)
	}
	for _, folder := range emptyFolders {
		mode := fs.FileMode(0o755)
		if strings.HasSuffix(folder, "/tmp") {
			mode = 0o1777
		}
		if err := os.MkdirAll(filepath.Join(root, folder), 0o755); err != nil {
			return err
		}
		if err := unix.Chmod(filepath.Join(root, folder), uint32(mode)); err != nil {
			return err
		}
	}
	if err := os.Symlink("../run", filepath.Join(root, "/var/run")); err != nil {
		return err
	}
	for _, path := range hostFolders {
		if err := showHost(root, path); err != nil {
			return err
		}
	}
	for name, content := range spec.Etc {
		if err := os.WriteFile(filepath.Join(root, "/etc", name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	if err := makeDevices(root); err != nil {
		return err
	}
	proc := filepath.Join(root, "/proc")
	if err := unix.Mount("proc", proc, "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		// Refused where the outer /proc is partly hidden. /proc/self is right in the outer one too.
		if err := unix.Mount("/proc", proc, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("mount /proc: %w", err)
		}
	}
	paths := make([]string, 0, len(spec.Image))
	for path := range spec.Image {
		paths = append(paths, path)
	}
	sort.Strings(paths)
	for _, path := range paths {
		if err := bind(root, Mount{Source: spec.Image[path], Target: path, ReadOnly: true}); err != nil {
			return fmt.Errorf("image: %w", err)
		}
	}
	for _, mount := range spec.Mounts {
		if err := bind(root, mount); err != nil {
			return err
		}
	}
	if spec.ReadOnlyRoot {
		if err := setReadOnly(root, false); err != nil {
			return err
		}
	}
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("change root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the machine's file system: %w", err)
	}
	return os.Chdir("/")
}

// showHost lets the container see a path of the machine, read-only, as the symbolic link that it may be.
func showHost(root, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		target, err := os.Readlink(path)
		if err != nil {
			return err
		}
		return os.Symlink(target, filepath.Join(root, path))
	}
	return bind(root, Mount{Source: path, Target: path, ReadOnly: true})
}

// bind mounts a file or folder of the machine into the container, making the mount point where there is none.
func bind(root string, mount Mount) error {
	info, err := os.Stat(mount.Source)
	if err != nil {
		return fmt.Errorf("mount %s: %w", mount.Target, err)
	}
	target := filepath.Join(root, mount.Target)
	if _, err := os.Stat(target); errors.Is(err, fs.ErrNotExist) {
		if err := makeMountPoint(target, info.IsDir()); err != nil {
			return fmt.Errorf("mount %s: the machine's folders are read-only and have no such path: %w", mount.Target, err)
		}
	}
	if err := unix.Mount(mount.Source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mount %s on %s: %w", mount.Source, mount.Target, err)
	}
	if mount.ReadOnly {
		return setReadOnly(target, true)
	}
	return nil
}

func makeMountPoint(path string, folder bool) error {
	if folder {
		return os.MkdirAll(path, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return file.Close()
}

// setReadOnly adds the read-only flag and keeps all others, which a user namespace may not clear.
func setReadOnly(path string, recursive bool) error {
	flags := uint(0)
	if recursive {
		flags = unix.AT_RECURSIVE
	}
	if err := unix.MountSetattr(unix.AT_FDCWD, path, flags, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
		return fmt.Errorf("make %s read-only (needs Linux 5.12 or newer): %w", path, err)
	}
	return nil
}

func makeDevices(root string) error {
	dev := filepath.Join(root, "/dev")
	for _, name := range devices {
		if err := bind(root, Mount{Source: "/dev/" + name, Target: "/dev/" + name}); err != nil {
			return err
		}
	}
	links := map[string]string{
		"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
		"ptmx": "pts/ptmx",
	}
	for name, target := range links {
		if err := os.Symlink(target, filepath.Join(dev, name)); err != nil {
			return err
		}
	}
	for _, name := range []string{"shm", "pts"} {
		if err := os.Mkdir(filepath.Join(dev, name), 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("shm", filepath.Join(dev, "shm"), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=1777,size=64m"); err != nil {
		return fmt.Errorf("mount /dev/shm: %w", err)
	}
	if err := unix.Mount("devpts", filepath.Join(dev, "pts"), "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"); err != nil {
		return fmt.Errorf("mount /dev/pts: %w", err)
	}
	return nil
}

// limit takes from this process, and from all that it will run, the capabilities that are not in the list.
func limit(keep *[]int, noNewPrivileges bool) error {
	if keep != nil {
		kept := map[int]bool{}
		for _, capability := range *keep {
			kept[capability] = true
		}
		for capability := 0; capability <= unix.CAP_LAST_CAP; capability++ {
			if kept[capability] {
				continue
			}
			// EINVAL: this kernel does not know the capability yet.
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(capability), 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
				return fmt.Errorf("drop capability %d: %w", capability, err)
			}
		}
	}
	if noNewPrivileges {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("set no_new_privs: %w", err)
		}
	}
	return nil
}

// lookPath finds a program as a shell would, in the given PATH.
func lookPath(name, path string) (string, error) {
	if strings.Contains(name, "/") {
		if err := executable(name); err != nil {
			return "", fmt.Errorf("exec: %q: %w", name, err)
		}
		return name, nil
	}
	for _, folder := range filepath.SplitList(path) {
		candidate := filepath.Join(folder, name)
		if folder != "" && executable(candidate) == nil {
			return candidate, nil
		}
	}
	return "", fmt.Errorf("exec: %q: executable file not found in $PATH (%s)", name, path)
}

func executable(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return errors.Unwrap(err)
	}
	if info.IsDir() || info.Mode()&0o111 == 0 {
		return fs.ErrPermission
	}
	return nil
}

// valueOf finds a variable in an environment.
func valueOf(env []string, name string) string {
	value := ""
	for _, entry := range env {
		if v, ok := strings.CutPrefix(entry, name+"="); ok {
			value = v
		}
	}
	return value
}
