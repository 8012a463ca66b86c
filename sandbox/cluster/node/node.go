// Package node is a node of the sandbox's clusters: the real kubelet as a library, with the sandbox's own container
// runtime in the same process and stand-ins for what it would ask of the machine's root: cgroups and device plugins
// are missing, as is CSI. Volumes of the types hostPath, local, emptyDir, configMap, secret, downwardAPI and projected
// work as everywhere.
package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"go.opentelemetry.io/otel/trace/noop"
	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/kubernetes"
	typedv1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	kubeletapp "k8s.io/kubernetes/cmd/kubelet/app"
	"k8s.io/kubernetes/cmd/kubelet/app/options"
	"k8s.io/kubernetes/pkg/features"
	"k8s.io/kubernetes/pkg/kubelet"
	kubeletconfig "k8s.io/kubernetes/pkg/kubelet/apis/config"
	"k8s.io/kubernetes/pkg/kubelet/cm"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	kubeletutil "k8s.io/kubernetes/pkg/kubelet/util"
	"k8s.io/kubernetes/pkg/util/oom"
	"k8s.io/kubernetes/pkg/volume"
	"k8s.io/kubernetes/pkg/volume/configmap"
	"k8s.io/kubernetes/pkg/volume/downwardapi"
	"k8s.io/kubernetes/pkg/volume/emptydir"
	"k8s.io/kubernetes/pkg/volume/hostpath"
	"k8s.io/kubernetes/pkg/volume/local"
	"k8s.io/kubernetes/pkg/volume/projected"
	"k8s.io/kubernetes/pkg/volume/secret"
	"k8s.io/kubernetes/pkg/volume/util/hostutil"
	"k8s.io/kubernetes/pkg/volume/util/subpath"
	"k8s.io/mount-utils"

	"cluster/boot"
	"cluster/runtime"
)

// settings of a node, from its flags.
type settings struct {
	name         string
	labels       map[string]string
	providerID   string
	nodeIP       string
	bridge       string
	gateway      string
	podPrefix    int
	firstPodIP   string
	lastPodIP    string
	kubeconfig   string
	dir          string
	clusterDNS   []string
	images       string
	cpu          int
	memory       string
	clientCA     string
	certificate  string
	key          string
	statusPeriod time.Duration
}

// NewCommand is the part of `sandbox-cluster node` that runs inside the node's machine: the kubelet.
func NewCommand() *cobra.Command {
	var s settings
	command := &cobra.Command{
		Use:          "node",
		Short:        "Runs a node: the kubelet and a container runtime",
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE: func(command *cobra.Command, _ []string) error {
			return s.run(command.Context())
		},
	}
	flags := command.Flags()
	flags.StringVar(&s.name, "name", "", "name of the node")
	flags.StringToStringVar(&s.labels, "label", nil, "label of the node, name=value; may be repeated")
	flags.StringVar(&s.providerID, "provider-id", "", "the instance that the node is, e.g. aws:///us-east-1a/i-0123456789abcdef0")
	flags.StringVar(&s.nodeIP, "node-ip", "", "address of the node; it is added to the bridge if it is missing there")
	flags.StringVar(&s.bridge, "bridge", "", "bridge to which pods are attached")
	flags.StringVar(&s.gateway, "gateway", "", "gateway of the pods: the bridge's own address")
	flags.IntVar(&s.podPrefix, "pod-prefix", 16, "length of the prefix of the pods' network")
	flags.StringVar(&s.firstPodIP, "first-pod-ip", "", "first address for pods")
	flags.StringVar(&s.lastPodIP, "last-pod-ip", "", "last address for pods")
	flags.StringVar(&s.kubeconfig, "kubeconfig", "", "kubeconfig file with the node's credentials")
	flags.StringVar(&s.dir, "dir", "", "folder in which the node keeps its files")
	flags.StringSliceVar(&s.clusterDNS, "cluster-dns", nil, "address of the DNS server that pods ask")
	flags.StringVar(&s.images, "images", "", "JSON file with the table of images; read again when it changes")
	flags.IntVar(&s.cpu, "cpu", 4, "processors that the node reports")
	flags.StringVar(&s.memory, "memory", "16Gi", "memory that the node reports")
	flags.StringVar(&s.clientCA, "client-ca", "", "file with the authority whose clients may use the kubelet's API")
	flags.StringVar(&s.certificate, "certificate", "", "file with the certificate of the kubelet's API")
	flags.StringVar(&s.key, "key", "", "file with the key of that certificate")
	flags.DurationVar(&s.statusPeriod, "status-period", 10*time.Second, "how often the node's status is computed")
	for _, required := range []string{
		"name", "node-ip", "bridge", "gateway", "first-pod-ip", "last-pod-ip", "kubeconfig", "dir", "cluster-dns", "images",
		"client-ca", "certificate", "key",
	} {
		if err := command.MarkFlagRequired(required); err != nil {
			panic(err) // a flag that was not declared above
		}
	}
	return command
}

// volumePlugins are the types of volumes that work without a driver and without more rights than the sandbox has.
func volumePlugins() []volume.VolumePlugin {
	var plugins []volume.VolumePlugin
	for _, probe := range []func() []volume.VolumePlugin{
		emptydir.ProbeVolumePlugins,
		secret.ProbeVolumePlugins,
		configmap.ProbeVolumePlugins,
		downwardapi.ProbeVolumePlugins,
		func() []volume.VolumePlugin { return withoutOwners(projected.ProbeVolumePlugins()) },
		local.ProbeVolumePlugins,
		func() []volume.VolumePlugin { return hostpath.ProbeVolumePlugins(volume.VolumeConfig{}) },
	} {
		plugins = append(plugins, probe()...)
	}
	return plugins
}

func (s *settings) network() (*runtime.Network, error) {
	network := &runtime.Network{Bridge: s.bridge, Prefix: s.podPrefix}
	var faults []error
	for flag, field := range map[string]struct {
		text string
		into *netip.Addr
	}{
		"gateway":      {s.gateway, &network.Gateway},
		"first-pod-ip": {s.firstPodIP, &network.First},
		"last-pod-ip":  {s.lastPodIP, &network.Last},
	} {
		address, err := netip.ParseAddr(field.text)
		if err != nil || !address.Is4() {
			faults = append(faults, fmt.Errorf("--%s: %q is not an IPv4 address", flag, field.text))
			continue
		}
		*field.into = address
	}
	if len(faults) == 0 && network.First.Compare(network.Last) > 0 {
		faults = append(faults, fmt.Errorf("--first-pod-ip %s comes after --last-pod-ip %s", network.First, network.Last))
	}
	return network, errors.Join(faults...)
}

// configure the kubelet, with upstream's defaults for everything that is not set here.
func (s *settings) configure() (*options.KubeletServer, error) {
	flags := options.NewKubeletFlags()
	flags.KubeConfig = s.kubeconfig
	flags.HostnameOverride = s.name
	flags.NodeIP = s.nodeIP
	flags.NodeLabels = s.labels
	flags.RootDirectory = filepath.Join(boot.NodeRoot, "kubelet")
	flags.CertDirectory = filepath.Join(boot.NodeRoot, "certificates")
	flags.MinimumGCAge = metav1.Duration{Duration: time.Minute}

	config, err := options.NewKubeletConfiguration()
	if err != nil {
		return nil, err
	}
	config.ProviderID = s.providerID
	config.PodLogsDir = filepath.Join(boot.NodeRoot, "logs")
	config.Address = s.nodeIP
	config.HealthzPort = 0
	config.ReadOnlyPort = 0
	config.StaticPodPath = ""
	config.TLSCertFile = s.certificate
	config.TLSPrivateKeyFile = s.key
	config.Authentication = kubeletconfig.KubeletAuthentication{
		X509:    kubeletconfig.KubeletX509Authentication{ClientCAFile: s.clientCA},
		Webhook: kubeletconfig.KubeletWebhookAuthentication{Enabled: true, CacheTTL: metav1.Duration{Duration: time.Minute}},
	}
	config.Authorization.Mode = kubeletconfig.KubeletAuthorizationModeWebhook
	config.ClusterDNS = s.clusterDNS
	config.ClusterDomain = "cluster.local"
	config.ResolverConfig = filepath.Join(boot.NodeRoot, "resolv.conf")
	config.NodeStatusUpdateFrequency = metav1.Duration{Duration: s.statusPeriod}
	// A dead node is noticed in half the usual time, together with the controller manager's grace period.
	config.NodeLeaseDurationSeconds = 20
	// So that a mounted ConfigMap or Secret is up to date soon after it has changed.
	config.SyncFrequency = metav1.Duration{Duration: 10 * time.Second}
	config.ConfigMapAndSecretChangeDetectionStrategy = kubeletconfig.WatchChangeDetectionStrategy
	// There is nothing to measure or to limit without cgroups, and nothing to translate without a service proxy.
	config.CgroupsPerQOS = false
	config.EnforceNodeAllocatable = nil
	config.EvictionHard = nil
	config.LocalStorageCapacityIsolation = false
	config.MakeIPTablesUtilChains = false
	config.FailSwapOn = false
	config.FailCgroupV1 = false
	config.ImageGCHighThresholdPercent = 100
	config.ImageGCLowThresholdPercent = 99
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return nil, err
	}
	// The kubelet sets its limit to this number: no more than it may have anyway.
	config.MaxOpenFiles = int64(files.Max)
	config.SerializeImagePulls = false
	config.MaxPods = 110
	return &options.KubeletServer{KubeletFlags: *flags, KubeletConfiguration: *config}, nil
}

// dependencies of the kubelet: the real ones wherever they need no rights that the sandbox does not have.
func (s *settings) dependencies(ctx context.Context, kubeletServer *options.KubeletServer) (*kubelet.Dependencies, error) {
	clientConfig, err := clientcmd.BuildConfigFromFlags("", s.kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("--kubeconfig %s: %w", s.kubeconfig, err)
	}
	clientConfig.QPS, clientConfig.Burst = 50, 100
	clientConfig.Dial = dialPatiently
	client, err := kubernetes.NewForConfig(clientConfig)
	if err != nil {
		return nil, err
	}
	eventClient, err := typedv1.NewForConfig(clientConfig)
	if err != nil {
		return nil, err
	}
	heartbeatConfig := rest.CopyConfig(clientConfig)
	heartbeatConfig.Timeout = s.statusPeriod
	heartbeatConfig.QPS = -1
	heartbeatClient, err := kubernetes.NewForConfig(heartbeatConfig)
	if err != nil {
		return nil, err
	}
	apiServer, err := url.Parse(clientConfig.Host)
	if err != nil {
		return nil, fmt.Errorf("--kubeconfig %s: server: %w", s.kubeconfig, err)
	}
	network, err := s.network()
	if err != nil {
		return nil, err
	}
	images, err := runtime.NewImages(s.images)
	if err != nil {
		return nil, fmt.Errorf("--images: %w", err)
	}
	containers, err := runtime.New(filepath.Join(boot.NodeRoot, "containers"), images, network, apiServer)
	if err != nil {
		return nil, err
	}
	machine, err := newMachine(s.cpu, s.memory, s.providerID, kubeletServer.RootDirectory)
	if err != nil {
		return nil, err
	}
	tlsOptions, err := kubeletapp.InitializeTLS(ctx, &kubeletServer.KubeletFlags, &kubeletServer.KubeletConfiguration)
	if err != nil {
		return nil, err
	}
	// What would read the authority's file again is not started: it never changes, and each watched file counts against
	// the user's inotify instances, of which there are often no more than 128.
	auth, _, err := kubeletapp.BuildAuth(types.NodeName(s.name), client, kubeletServer.KubeletConfiguration)
	if err != nil {
		return nil, err
	}
	mounter := mount.New("")
	return &kubelet.Dependencies{
		Auth:                      auth,
		CAdvisorInterface:         machine,
		ContainerManager:          cm.NewStubContainerManager(),
		KubeClient:                client,
		HeartbeatClient:           heartbeatClient,
		EventClient:               eventClient,
		OnHeartbeatFailure:        func() {},
		HostUtil:                  hostutil.NewHostUtil(),
		Mounter:                   mounter,
		Subpather:                 subpath.New(mounter),
		OOMAdjuster:               oom.NewFakeOOMAdjuster(),
		OSInterface:               kubecontainer.RealOS{},
		RemoteRuntimeService:      containers,
		RemoteImageService:        images,
		TracerProvider:            noop.NewTracerProvider(),
		VolumePlugins:             volumePlugins(),
		TLSOptions:                tlsOptions,
		PodStartupLatencyTracker:  kubeletutil.NewPodStartupLatencyTracker(),
		NodeStartupLatencyTracker: kubeletutil.NewNodeStartupLatencyTracker(),
	}, nil
}

// dialPatiently waits for an API server that is being started again, rather than to fail at once: after failures in a
// row, a kubelet would not look for its pods for up to a minute.
func dialPatiently(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	dialer := net.Dialer{KeepAlive: 30 * time.Second}
	for {
		conn, err := dialer.DialContext(ctx, network, address)
		if !errors.Is(err, unix.ECONNREFUSED) {
			return conn, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (s *settings) run(ctx context.Context) error {
	if err := utilfeature.DefaultMutableFeatureGate.SetFromMap(map[string]bool{
		string(features.KubeletInUserNamespace):             true,
		string(features.ReloadKubeletServerCertificateFile): false,
	}); err != nil {
		return err
	}
	if err := addAddress(s.bridge, s.nodeIP); err != nil {
		return err
	}
	kubeletServer, err := s.configure()
	if err != nil {
		return err
	}
	for _, dir := range []string{kubeletServer.RootDirectory, kubeletServer.PodLogsDir, kubeletServer.CertDirectory} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	// Pods with dnsPolicy Default ask the sandbox's server too: there is no other.
	resolver := ""
	for _, address := range s.clusterDNS {
		resolver += "nameserver " + address + "\n"
	}
	if err := os.WriteFile(kubeletServer.ResolverConfig, []byte(resolver), 0o644); err != nil {
		return err
	}
	dependencies, err := s.dependencies(ctx, kubeletServer)
	if err != nil {
		return err
	}
	if err := kubeletapp.RunKubelet(ctx, kubeletServer, dependencies); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}
