package runtime

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/distribution/reference"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Image is one entry of the table of images.
type Image struct {
	// Image is its name, e.g. docker.io/restatedev/restate:1.7.12.
	Image string `json:"image"`
	// Files maps absolute paths in the container to files or folders of the machine.
	Files map[string]string `json:"files"`
	// Entrypoint runs when the pod gives no command. Arguments of the pod are added to it.
	Entrypoint []string `json:"entrypoint"`
	// Command is what follows the entrypoint when the pod gives neither command nor arguments.
	Command []string `json:"command"`
	// Env has entries NAME=value, which the pod's own override.
	Env []string `json:"env"`
	// Workdir is / unless given.
	Workdir string `json:"workdir"`
	// User is the numeric user id that the image declares; it matters only for runAsNonRoot, see package runtime.
	User *int64 `json:"user"`

	id string
}

// Images answers for what a registry and an image store do. It reads the table again whenever the file has changed.
type Images struct {
	path string

	mutex   sync.Mutex
	read    time.Time
	size    int64
	byName  map[string]*Image
	byID    map[string]*Image
	present map[string]bool
}

// NewImages reads the table of images.
func NewImages(path string) (*Images, error) {
	images := &Images{path: path, present: map[string]bool{}}
	images.mutex.Lock()
	defer images.mutex.Unlock()
	return images, images.refresh()
}

// normalize gives an image's full name. Restate's own registry is a front of Docker Hub's.
func normalize(name string) (string, error) {
	named, err := reference.ParseDockerRef(name)
	if err != nil {
		return "", fmt.Errorf("image name %q: %w", name, err)
	}
	full := named.String()
	if rest, ok := strings.CutPrefix(full, "docker.restate.dev/"); ok {
		full = "docker.io/" + rest
	}
	return full, nil
}

// refresh reads the table if it has changed. A table that cannot be read leaves the former one in place.
func (i *Images) refresh() error {
	info, err := os.Stat(i.path)
	if err != nil {
		return fmt.Errorf("table of images: %w", err)
	}
	if i.byName != nil && info.ModTime().Equal(i.read) && info.Size() == i.size {
		return nil
	}
	content, err := os.ReadFile(i.path)
	if err != nil {
		return fmt.Errorf("table of images: %w", err)
	}
	byName, byID, err := parseImages(content)
	if err != nil {
		return fmt.Errorf("table of images %s: %w", i.path, err)
	}
	i.byName, i.byID, i.read, i.size = byName, byID, info.ModTime(), info.Size()
	return nil
}

func parseImages(content []byte) (byName, byID map[string]*Image, err error) {
	var entries []*Image
	if err := json.Unmarshal(content, &entries); err != nil {
		return nil, nil, err
	}
	byName, byID = map[string]*Image{}, map[string]*Image{}
	for _, entry := range entries {
		name, err := normalize(entry.Image)
		if err != nil {
			return nil, nil, err
		}
		for path, source := range entry.Files {
			if !filepath.IsAbs(path) || !filepath.IsAbs(source) {
				return nil, nil, fmt.Errorf("%s: file %q: %q: both paths must be absolute", name, path, source)
			}
		}
		if _, twice := byName[name]; twice {
			return nil, nil, fmt.Errorf("%s is there twice", name)
		}
		canonical, err := json.Marshal(entry)
		if err != nil {
			return nil, nil, err
		}
		sum := sha256.Sum256(canonical)
		entry.Image = name
		entry.id = "sha256:" + hex.EncodeToString(sum[:])
		if entry.Workdir == "" {
			entry.Workdir = "/"
		}
		byName[name], byID[entry.id] = entry, entry
	}
	return byName, byID, nil
}

// find an image by name or id. It returns nil, without an error, for one that is not in the table.
func (i *Images) find(name string) (*Image, error) {
	i.mutex.Lock()
	defer i.mutex.Unlock()
	if err := i.refresh(); err != nil && i.byName == nil {
		return nil, err
	}
	if image, ok := i.byID[name]; ok {
		return image, nil
	}
	full, err := normalize(name)
	if err != nil {
		return nil, err
	}
	return i.byName[full], nil
}

func (i *Images) known() []string {
	i.mutex.Lock()
	defer i.mutex.Unlock()
	names := make([]string, 0, len(i.byName))
	for name := range i.byName {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

func (i *Images) describe(image *Image) *runtimeapi.Image {
	result := &runtimeapi.Image{
		Id:       image.id,
		RepoTags: []string{image.Image},
		Size:     1,
		Spec:     &runtimeapi.ImageSpec{Image: image.id},
	}
	if image.User != nil {
		result.Uid = &runtimeapi.Int64Value{Value: *image.User}
	}
	return result
}

func (i *Images) isPresent(image *Image) bool {
	i.mutex.Lock()
	defer i.mutex.Unlock()
	return i.present[image.id]
}

// ListImages that were pulled.
func (i *Images) ListImages(context.Context, *runtimeapi.ImageFilter) ([]*runtimeapi.Image, error) {
	i.mutex.Lock()
	defer i.mutex.Unlock()
	var result []*runtimeapi.Image
	for id, image := range i.byID {
		if i.present[id] {
			result = append(result, i.describe(image))
		}
	}
	return result, nil
}

// ImageStatus of an image; it has none before it is pulled.
func (i *Images) ImageStatus(_ context.Context, spec *runtimeapi.ImageSpec, _ bool) (*runtimeapi.ImageStatusResponse, error) {
	image, err := i.find(spec.Image)
	if err != nil {
		return nil, err
	}
	if image == nil || !i.isPresent(image) {
		return &runtimeapi.ImageStatusResponse{}, nil
	}
	return &runtimeapi.ImageStatusResponse{Image: i.describe(image)}, nil
}

// PullImage marks an image of the table as pulled; any other is refused with the names of those that there are, and with how more get there.
func (i *Images) PullImage(_ context.Context, spec *runtimeapi.ImageSpec, _ *runtimeapi.AuthConfig, _ *runtimeapi.PodSandboxConfig) (string, error) {
	image, err := i.find(spec.Image)
	if err != nil {
		return "", err
	}
	if image == nil {
		return "", fmt.Errorf("the sandbox has no image %s; it has %s (npm run sandbox fetches the versions of Restate that the stacks ask for)", spec.Image, strings.Join(i.known(), ", "))
	}
	for path, source := range image.Files {
		if _, err := os.Stat(source); err != nil {
			return "", fmt.Errorf("image %s: file %s: %w", image.Image, path, err)
		}
	}
	i.mutex.Lock()
	defer i.mutex.Unlock()
	i.present[image.id] = true
	return image.id, nil
}

// RemoveImage makes the next use of the image pull it.
func (i *Images) RemoveImage(_ context.Context, spec *runtimeapi.ImageSpec) error {
	image, err := i.find(spec.Image)
	if err != nil || image == nil {
		return err
	}
	i.mutex.Lock()
	defer i.mutex.Unlock()
	delete(i.present, image.id)
	return nil
}

// ImageFsInfo has nothing to report: images take no space of their own.
func (i *Images) ImageFsInfo(context.Context) (*runtimeapi.ImageFsInfoResponse, error) {
	usage := []*runtimeapi.FilesystemUsage{{
		Timestamp:  time.Now().UnixNano(),
		FsId:       &runtimeapi.FilesystemIdentifier{Mountpoint: "/"},
		UsedBytes:  &runtimeapi.UInt64Value{},
		InodesUsed: &runtimeapi.UInt64Value{},
	}}
	return &runtimeapi.ImageFsInfoResponse{ImageFilesystems: usage, ContainerFilesystems: usage}, nil
}

// Close has nothing to close.
func (i *Images) Close(context.Context) error { return nil }
