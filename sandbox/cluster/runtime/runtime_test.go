package runtime

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestNamesOfImages(t *testing.T) {
	const full = "docker.io/restatedev/restate:1.7.12"
	for _, name := range []string{
		"restatedev/restate:1.7.12", "docker.io/restatedev/restate:1.7.12", "docker.restate.dev/restatedev/restate:1.7.12",
	} {
		if got, err := normalize(name); err != nil || got != full {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
	if got, _ := normalize("bash"); got != "docker.io/library/bash:latest" {
		t.Error(got)
	}
	if _, err := normalize("Not A Name"); err == nil {
		t.Error("accepted")
	}
}

func TestTablesThatAreWrong(t *testing.T) {
	for table, fault := range map[string]string{
		`{}`:                                   "cannot unmarshal",
		`[{"image":"a:1"},{"image":"a:1"}]`:    "docker.io/library/a:1 is there twice",
		`[{"image":"a:1","files":{"b":"/c"}}]`: "both paths must be absolute",
		`[{"image":"A B"}]`:                    "invalid reference format",
	} {
		if _, _, err := parseImages([]byte(table)); err == nil || !strings.Contains(err.Error(), fault) {
			t.Errorf("%s: %v", table, err)
		}
	}
}

func TestTableIsReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "images.json")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`[{"image":"one:1"}]`)
	images, err := NewImages(path)
	if err != nil {
		t.Fatal(err)
	}
	write(`[{"image":"one:1"},{"image":"another:2"}]`)
	if found, err := images.find("another:2"); err != nil || found == nil {
		t.Error(found, err)
	}
	write(`[{"image":`) // half written: what was read before still counts
	if found, err := images.find("one:1"); err != nil || found == nil {
		t.Error(found, err)
	}
	_, err = images.PullImage(t.Context(), &runtimeapi.ImageSpec{Image: "other:1"}, nil, nil)
	want := "the sandbox has no image other:1; it has docker.io/library/another:2, docker.io/library/one:1 (npm run sandbox fetches the versions of Restate that the stacks ask for)"
	if err == nil || err.Error() != want {
		t.Error(err)
	}
}

func TestAddressesInTurn(t *testing.T) {
	network := &Network{First: netip.MustParseAddr("10.1.17.254"), Last: netip.MustParseAddr("10.1.18.0")}
	take := func() string {
		address, err := network.allocate()
		if err != nil {
			return err.Error()
		}
		return address.String()
	}
	got := []string{take(), take(), take(), take()}
	network.release(netip.MustParseAddr("10.1.17.255"))
	got = append(got, take())
	want := []string{
		"10.1.17.254", "10.1.17.255", "10.1.18.0", "all pod addresses from 10.1.17.254 to 10.1.18.0 are in use", "10.1.17.255",
	}
	if !reflect.DeepEqual(got, want) {
		t.Error(got)
	}
}

func TestLogFormat(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	log, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", maxLogLine+3)
	if err := log.copy("stdout", strings.NewReader("one\n\n"+long+"\nlast")); err != nil {
		t.Fatal(err)
	}
	if err := log.close(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(content), "\n"), "\n")
	time := regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[^ ]* `)
	for i, line := range lines {
		lines[i] = time.ReplaceAllString(line, "")
	}
	want := []string{"stdout F one", "stdout F ", "stdout P " + long[:maxLogLine], "stdout F xxx", "stdout F last"}
	if !reflect.DeepEqual(lines, want) {
		t.Errorf("%q", lines)
	}
}

func TestCapabilities(t *testing.T) {
	of := func(add, drop []string) []int {
		numbers, err := capabilitiesOf(&runtimeapi.LinuxContainerSecurityContext{
			Capabilities: &runtimeapi.Capability{AddCapabilities: add, DropCapabilities: drop},
		})
		if err != nil {
			t.Fatal(err)
		}
		return *numbers
	}
	if got := of(nil, []string{"ALL"}); len(got) != 0 {
		t.Error(got)
	}
	if got := of([]string{"NET_BIND_SERVICE"}, []string{"all"}); !slices.Equal(got, []int{unix.CAP_NET_BIND_SERVICE}) {
		t.Error(got)
	}
	if got := of([]string{"CAP_SYS_TIME"}, []string{"CHOWN"}); slices.Contains(got, unix.CAP_CHOWN) || !slices.Contains(got, unix.CAP_SYS_TIME) {
		t.Error(got)
	}
	all, err := capabilitiesOf(&runtimeapi.LinuxContainerSecurityContext{Privileged: true})
	if err != nil || all != nil {
		t.Error(all, err)
	}
	_, err = capabilitiesOf(&runtimeapi.LinuxContainerSecurityContext{Capabilities: &runtimeapi.Capability{AddCapabilities: []string{"FLY"}}})
	if err == nil || err.Error() != `unknown capability "FLY"` {
		t.Error(err)
	}
}

func TestEnvironmentAndResolver(t *testing.T) {
	if got := unique([]string{"A=1", "B=2", "A=3"}); !slices.Equal(got, []string{"A=3", "B=2"}) {
		t.Error(got)
	}
	got := resolverFile(&runtimeapi.DNSConfig{Servers: []string{"10.0.0.53"}, Searches: []string{"a", "b"}, Options: []string{"ndots:5"}})
	if got != "nameserver 10.0.0.53\nsearch a b\noptions ndots:5\n" {
		t.Error(got)
	}
}
