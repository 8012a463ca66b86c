// Package runtime is the container runtime of the sandbox's nodes: the interfaces of the CRI, in-process, running each
// container as processes of the machine in namespaces of their own.
//
// What it does not do: no image is ever fetched or unpacked: containers see the machine's own programs and libraries,
// read-only, and the files that the table of images gives. Everything runs as the one user that the sandbox's user
// namespace has; runAsUser and runAsGroup change nothing. There are no cgroups: resource limits are scheduled by, but
// not enforced. Seccomp, AppArmor, SELinux, host ports, shared process namespaces, attaching to a container's stdin,
// and checkpoints are missing.
package runtime

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming"
)

// Name of the runtime, in container ids and in the node's status.
const Name = "sandbox"

// Runtime implements the CRI's RuntimeService.
type Runtime struct {
	dir       string
	images    *Images
	network   *Network
	apiServer *url.URL
	streams   streaming.Server

	mutex      sync.Mutex
	sandboxes  map[string]*sandbox
	containers map[string]*container
}

var (
	_ internalapi.RuntimeService      = &Runtime{}
	_ internalapi.ImageManagerService = &Images{}
)

// sandbox is what the containers of a pod share.
type sandbox struct {
	id      string
	config  *runtimeapi.PodSandboxConfig
	handler string
	created time.Time
	// namespace and address are missing for a pod of the host's network.
	namespace *os.File
	address   netip.Addr
	ready     bool
}

// New makes a runtime that keeps its files in a folder. What an earlier run has left there counts as ended: its
// processes died with it. Containers that look for the API server are told its real address, because nothing forwards
// the cluster's service addresses.
func New(dir string, images *Images, network *Network, apiServer *url.URL) (*Runtime, error) {
	r := &Runtime{
		dir:        dir,
		images:     images,
		network:    network,
		apiServer:  apiServer,
		sandboxes:  map[string]*sandbox{},
		containers: map[string]*container{},
	}
	for _, folder := range []string{r.sandboxFolder(), r.containerFolder()} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return nil, err
		}
	}
	if err := r.restore(); err != nil {
		return nil, err
	}
	return r, r.serveStreams()
}

func newID() string {
	id := make([]byte, 32)
	_, _ = rand.Read(id) // documented never to fail
	return hex.EncodeToString(id)
}

// Version of the runtime.
func (r *Runtime) Version(context.Context, string) (*runtimeapi.VersionResponse, error) {
	return &runtimeapi.VersionResponse{
		Version:           "0.1.0",
		RuntimeName:       Name,
		RuntimeVersion:    "1.0.0",
		RuntimeApiVersion: "v1",
	}, nil
}

// Status is always ready: there is nothing that could be down while this process lives.
func (r *Runtime) Status(context.Context, bool) (*runtimeapi.StatusResponse, error) {
	return &runtimeapi.StatusResponse{Status: &runtimeapi.RuntimeStatus{Conditions: []*runtimeapi.RuntimeCondition{
		{Type: runtimeapi.RuntimeReady, Status: true},
		{Type: runtimeapi.NetworkReady, Status: true},
	}}}, nil
}

// UpdateRuntimeConfig would tell the node's pod range; the node knows it already.
func (r *Runtime) UpdateRuntimeConfig(context.Context, *runtimeapi.RuntimeConfig) error { return nil }

// RuntimeConfig names a cgroup driver, which nothing uses.
func (r *Runtime) RuntimeConfig(context.Context) (*runtimeapi.RuntimeConfigResponse, error) {
	return &runtimeapi.RuntimeConfigResponse{
		Linux: &runtimeapi.LinuxRuntimeConfiguration{CgroupDriver: runtimeapi.CgroupDriver_CGROUPFS},
	}, nil
}

// Close has nothing to close.
func (r *Runtime) Close(context.Context) error { return nil }

// refusal of what a pod asks for and the sandbox's nodes do not have.
func refusal(format string, args ...any) error {
	return status.Errorf(codes.Unimplemented, "the sandbox's nodes do not support "+format, args...)
}

// RunPodSandbox gives a pod its network.
func (r *Runtime) RunPodSandbox(_ context.Context, config *runtimeapi.PodSandboxConfig, handler string) (string, error) {
	options := config.GetLinux().GetSecurityContext().GetNamespaceOptions()
	switch {
	case handler != "":
		return "", refusal("runtime classes (handler %q)", handler)
	case options.GetPid() == runtimeapi.NamespaceMode_POD:
		return "", refusal("shareProcessNamespace")
	case options.GetPid() == runtimeapi.NamespaceMode_NODE:
		return "", refusal("hostPID")
	case options.GetIpc() == runtimeapi.NamespaceMode_NODE:
		return "", refusal("hostIPC")
	case options.GetUsernsOptions().GetMode() == runtimeapi.NamespaceMode_POD:
		return "", refusal("hostUsers: false")
	}
	hostNetwork := options.GetNetwork() == runtimeapi.NamespaceMode_NODE
	for _, mapping := range config.PortMappings {
		if mapping.HostPort != 0 && !hostNetwork {
			return "", refusal("hostPort (%d)", mapping.HostPort)
		}
	}
	s := &sandbox{id: newID(), config: config, handler: handler, created: time.Now(), ready: true}
	if !hostNetwork {
		namespace, address, err := r.network.attach(config.GetLinux().GetSysctls())
		if err != nil {
			return "", err
		}
		s.namespace, s.address = namespace, address
	}
	if err := errors.Join(os.MkdirAll(config.LogDirectory, 0o755), r.saveSandbox(s)); err != nil {
		if s.namespace != nil {
			err = errors.Join(err, r.network.detach(s.namespace, s.address))
		}
		return "", err
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.sandboxes[s.id] = s
	return s.id, nil
}

// StopPodSandbox kills the pod's containers and takes its network away.
func (r *Runtime) StopPodSandbox(ctx context.Context, id string) error {
	r.mutex.Lock()
	s := r.sandboxes[id]
	containers := r.containersOf(id)
	r.mutex.Unlock()
	if s == nil {
		return nil
	}
	for _, c := range containers {
		if err := c.stop(ctx, 0); err != nil {
			return err
		}
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	s.ready = false
	if s.namespace == nil {
		return nil
	}
	namespace := s.namespace
	s.namespace = nil
	return r.network.detach(namespace, s.address)
}

// RemovePodSandbox forgets a pod and its containers.
func (r *Runtime) RemovePodSandbox(ctx context.Context, id string) error {
	if err := r.StopPodSandbox(ctx, id); err != nil {
		return err
	}
	r.mutex.Lock()
	containers := r.containersOf(id)
	r.mutex.Unlock()
	for _, c := range containers {
		if err := r.RemoveContainer(ctx, c.id); err != nil {
			return err
		}
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	delete(r.sandboxes, id)
	return os.RemoveAll(r.sandboxFile(id))
}

// containersOf a pod; the caller holds the lock.
func (r *Runtime) containersOf(sandboxID string) []*container {
	var result []*container
	for _, c := range r.containers {
		if c.sandboxID == sandboxID {
			result = append(result, c)
		}
	}
	return result
}

func (s *sandbox) state() runtimeapi.PodSandboxState {
	if s.ready {
		return runtimeapi.PodSandboxState_SANDBOX_READY
	}
	return runtimeapi.PodSandboxState_SANDBOX_NOTREADY
}

// PodSandboxStatus tells a pod's address, among other things.
func (r *Runtime) PodSandboxStatus(_ context.Context, id string, _ bool) (*runtimeapi.PodSandboxStatusResponse, error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	s := r.sandboxes[id]
	if s == nil {
		return nil, status.Errorf(codes.NotFound, "no pod sandbox %s", id)
	}
	network := &runtimeapi.PodSandboxNetworkStatus{}
	if s.address.IsValid() && s.ready {
		network.Ip = s.address.String()
	}
	return &runtimeapi.PodSandboxStatusResponse{Status: &runtimeapi.PodSandboxStatus{
		Id:             s.id,
		Metadata:       s.config.Metadata,
		State:          s.state(),
		CreatedAt:      s.created.UnixNano(),
		Network:        network,
		Labels:         s.config.Labels,
		Annotations:    s.config.Annotations,
		RuntimeHandler: s.handler,
		Linux: &runtimeapi.LinuxPodSandboxStatus{Namespaces: &runtimeapi.Namespace{
			Options: s.config.GetLinux().GetSecurityContext().GetNamespaceOptions(),
		}},
	}}, nil
}

// ListPodSandbox that match a filter.
func (r *Runtime) ListPodSandbox(_ context.Context, filter *runtimeapi.PodSandboxFilter) ([]*runtimeapi.PodSandbox, error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	var result []*runtimeapi.PodSandbox
	for _, s := range r.sandboxes {
		if filter.GetId() != "" && filter.GetId() != s.id ||
			filter.GetState() != nil && filter.GetState().State != s.state() ||
			!matches(filter.GetLabelSelector(), s.config.Labels) {
			continue
		}
		result = append(result, &runtimeapi.PodSandbox{
			Id:             s.id,
			Metadata:       s.config.Metadata,
			State:          s.state(),
			CreatedAt:      s.created.UnixNano(),
			Labels:         s.config.Labels,
			Annotations:    s.config.Annotations,
			RuntimeHandler: s.handler,
		})
	}
	return result, nil
}

func matches(selector, labels map[string]string) bool {
	for name, value := range selector {
		if labels[name] != value {
			return false
		}
	}
	return true
}

// UpdatePodSandboxResources has nothing to update: there are no cgroups.
func (r *Runtime) UpdatePodSandboxResources(context.Context, *runtimeapi.UpdatePodSandboxResourcesRequest) (*runtimeapi.UpdatePodSandboxResourcesResponse, error) {
	return &runtimeapi.UpdatePodSandboxResourcesResponse{}, nil
}

func (r *Runtime) find(id string) (*container, error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if c := r.containers[id]; c != nil {
		return c, nil
	}
	return nil, status.Errorf(codes.NotFound, "no container %s", id)
}

// CreateContainer works out what a container will be, and starts nothing.
func (r *Runtime) CreateContainer(_ context.Context, sandboxID string, config *runtimeapi.ContainerConfig, sandboxConfig *runtimeapi.PodSandboxConfig) (string, error) {
	r.mutex.Lock()
	s := r.sandboxes[sandboxID]
	r.mutex.Unlock()
	if s == nil || !s.ready {
		return "", status.Errorf(codes.NotFound, "no running pod sandbox %s", sandboxID)
	}
	if config.GetLinux().GetSecurityContext().GetNamespaceOptions().GetPid() == runtimeapi.NamespaceMode_TARGET {
		return "", refusal("ephemeral containers that target another")
	}
	if config.Stdin {
		return "", refusal("stdin: true (attaching to containers)")
	}
	if len(config.Devices) > 0 || len(config.CDIDevices) > 0 {
		return "", refusal("devices")
	}
	image, err := r.images.find(config.GetImage().GetImage())
	if err != nil {
		return "", err
	}
	if image == nil {
		return "", fmt.Errorf("the image %s was taken out of the table of images", config.GetImage().GetUserSpecifiedImage())
	}
	c := &container{
		id:        newID(),
		sandboxID: s.id,
		sandbox:   s,
		config:    config,
		imageName: image.Image,
		imageID:   image.id,
		logPath:   filepath.Join(s.config.LogDirectory, config.LogPath),
		created:   time.Now(),
		state:     runtimeapi.ContainerState_CONTAINER_CREATED,
		done:      make(chan struct{}),
	}
	c.dir = filepath.Join(r.containerFolder(), c.id)
	if c.spec, err = r.specOf(c, image, sandboxConfig); err != nil {
		return "", err
	}
	if err := os.MkdirAll(c.spec.Root, 0o755); err != nil {
		return "", err
	}
	if err := c.save(); err != nil {
		return "", err
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.containers[c.id] = c
	return c.id, nil
}

// StartContainer runs a container's program.
func (r *Runtime) StartContainer(_ context.Context, id string) error {
	c, err := r.find(id)
	if err != nil {
		return err
	}
	return c.start()
}

// StopContainer asks a container's program to end and kills it after as many seconds.
func (r *Runtime) StopContainer(ctx context.Context, id string, seconds int64) error {
	c, err := r.find(id)
	if err != nil {
		return nil
	}
	return c.stop(ctx, time.Duration(seconds)*time.Second)
}

// RemoveContainer forgets a container. Its log stays: the kubelet removes that.
func (r *Runtime) RemoveContainer(ctx context.Context, id string) error {
	c, err := r.find(id)
	if err != nil {
		return nil
	}
	if err := c.stop(ctx, 0); err != nil {
		return err
	}
	r.mutex.Lock()
	delete(r.containers, id)
	r.mutex.Unlock()
	return os.RemoveAll(c.dir)
}

// ListContainers that match a filter.
func (r *Runtime) ListContainers(_ context.Context, filter *runtimeapi.ContainerFilter) ([]*runtimeapi.Container, error) {
	r.mutex.Lock()
	all := make([]*container, 0, len(r.containers))
	for _, c := range r.containers {
		all = append(all, c)
	}
	r.mutex.Unlock()
	var result []*runtimeapi.Container
	for _, c := range all {
		current := c.status()
		if filter.GetId() != "" && filter.GetId() != c.id ||
			filter.GetState() != nil && filter.GetState().State != current.State ||
			filter.GetPodSandboxId() != "" && filter.GetPodSandboxId() != c.sandboxID ||
			!matches(filter.GetLabelSelector(), c.config.Labels) {
			continue
		}
		result = append(result, &runtimeapi.Container{
			Id:           c.id,
			PodSandboxId: c.sandboxID,
			Metadata:     c.config.Metadata,
			Image:        current.Image,
			ImageRef:     current.ImageRef,
			ImageId:      current.ImageId,
			State:        current.State,
			CreatedAt:    current.CreatedAt,
			Labels:       c.config.Labels,
			Annotations:  c.config.Annotations,
		})
	}
	slices.SortFunc(result, func(a, b *runtimeapi.Container) int { return int(b.CreatedAt - a.CreatedAt) })
	return result, nil
}

// ContainerStatus of one container.
func (r *Runtime) ContainerStatus(_ context.Context, id string, _ bool) (*runtimeapi.ContainerStatusResponse, error) {
	c, err := r.find(id)
	if err != nil {
		return nil, err
	}
	return &runtimeapi.ContainerStatusResponse{Status: c.status()}, nil
}

// UpdateContainerResources has nothing to update: there are no cgroups.
func (r *Runtime) UpdateContainerResources(context.Context, string, *runtimeapi.ContainerResources) error {
	return nil
}

// ReopenContainerLog after the kubelet has rotated it.
func (r *Runtime) ReopenContainerLog(_ context.Context, id string) error {
	c, err := r.find(id)
	if err != nil {
		return err
	}
	return c.reopenLog()
}

// CheckpointContainer is not supported.
func (r *Runtime) CheckpointContainer(context.Context, *runtimeapi.CheckpointContainerRequest) error {
	return refusal("checkpoints")
}

// GetContainerEvents is not supported: the kubelet lists instead.
func (r *Runtime) GetContainerEvents(context.Context, chan *runtimeapi.ContainerEventResponse, func(runtimeapi.RuntimeService_GetContainerEventsClient)) error {
	return refusal("container events")
}

var errNoStatistics = errors.New("the sandbox's nodes keep no statistics")

// ContainerStats are not kept: without cgroups nothing accounts for a container's use.
func (r *Runtime) ContainerStats(context.Context, string) (*runtimeapi.ContainerStats, error) {
	return nil, errNoStatistics
}

// ListContainerStats lists none.
func (r *Runtime) ListContainerStats(context.Context, *runtimeapi.ContainerStatsFilter) ([]*runtimeapi.ContainerStats, error) {
	return nil, nil
}

// PodSandboxStats are not kept.
func (r *Runtime) PodSandboxStats(context.Context, string) (*runtimeapi.PodSandboxStats, error) {
	return nil, errNoStatistics
}

// ListPodSandboxStats lists none.
func (r *Runtime) ListPodSandboxStats(context.Context, *runtimeapi.PodSandboxStatsFilter) ([]*runtimeapi.PodSandboxStats, error) {
	return nil, nil
}

// ListMetricDescriptors lists none.
func (r *Runtime) ListMetricDescriptors(context.Context) ([]*runtimeapi.MetricDescriptor, error) {
	return nil, nil
}

// ListPodSandboxMetrics lists none.
func (r *Runtime) ListPodSandboxMetrics(context.Context) ([]*runtimeapi.PodSandboxMetrics, error) {
	return nil, nil
}

// resolverFile is the content of /etc/resolv.conf for a pod.
func resolverFile(config *runtimeapi.DNSConfig) string {
	var lines []string
	for _, server := range config.GetServers() {
		lines = append(lines, "nameserver "+server)
	}
	if len(config.GetSearches()) > 0 {
		lines = append(lines, "search "+strings.Join(config.GetSearches(), " "))
	}
	if len(config.GetOptions()) > 0 {
		lines = append(lines, "options "+strings.Join(config.GetOptions(), " "))
	}
	return strings.Join(lines, "\n") + "\n"
}
