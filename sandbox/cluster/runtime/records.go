package runtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// What is on disk of pods and containers, so that a node that comes back knows what ran before it died, and with what
// result: Jobs are counted by that, and kubectl logs --previous finds its file by it.

type sandboxRecord struct {
	ID      string
	Config  []byte
	Created time.Time
}

type containerRecord struct {
	ID        string
	SandboxID string
	Config    []byte
	ImageName string
	ImageID   string
	LogPath   string
	Created   time.Time
	State     runtimeapi.ContainerState
	Started   time.Time
	Finished  time.Time
	ExitCode  int
	Reason    string
	Message   string
}

// exitUnknown is the exit code of a container whose end nobody saw.
const exitUnknown = 255

func (r *Runtime) sandboxFolder() string        { return filepath.Join(r.dir, "sandboxes") }
func (r *Runtime) containerFolder() string      { return filepath.Join(r.dir, "containers") }
func (r *Runtime) sandboxFile(id string) string { return filepath.Join(r.sandboxFolder(), id) }
func recordFile(containerFolder string) string  { return filepath.Join(containerFolder, "record.json") }

func writeRecord(path string, record any) error {
	content, err := json.Marshal(record)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// readRecord tells whether there is a whole record: what a crash has left unfinished counts for nothing.
func readRecord(path string, record any) (bool, error) {
	content, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return json.Unmarshal(content, record) == nil, nil
}

func (r *Runtime) saveSandbox(s *sandbox) error {
	config, err := proto.Marshal(s.config)
	if err != nil {
		return err
	}
	return writeRecord(r.sandboxFile(s.id), &sandboxRecord{ID: s.id, Config: config, Created: s.created})
}

// save records the container's state; the caller holds the lock, or is the only one who knows the container.
func (c *container) save() error {
	config, err := proto.Marshal(c.config)
	if err != nil {
		return err
	}
	return writeRecord(recordFile(c.dir), &containerRecord{
		ID:        c.id,
		SandboxID: c.sandboxID,
		Config:    config,
		ImageName: c.imageName,
		ImageID:   c.imageID,
		LogPath:   c.logPath,
		Created:   c.created,
		State:     c.state,
		Started:   c.started,
		Finished:  c.finished,
		ExitCode:  c.exitCode,
		Reason:    c.reason,
		Message:   c.message,
	})
}

// restore reads what an earlier run of the node has left. All of it has ended.
func (r *Runtime) restore() error {
	sandboxes, err := os.ReadDir(r.sandboxFolder())
	if err != nil {
		return err
	}
	for _, entry := range sandboxes {
		path := filepath.Join(r.sandboxFolder(), entry.Name())
		var record sandboxRecord
		found, err := readRecord(path, &record)
		if err != nil {
			return err
		}
		if !found || filepath.Ext(path) != "" { // the extension of one that was being written
			if err := os.Remove(path); err != nil {
				return err
			}
			continue
		}
		config := &runtimeapi.PodSandboxConfig{}
		if err := proto.Unmarshal(record.Config, config); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		r.sandboxes[record.ID] = &sandbox{id: record.ID, config: config, created: record.Created}
	}
	containers, err := os.ReadDir(r.containerFolder())
	if err != nil {
		return err
	}
	for _, entry := range containers {
		if err := r.restoreContainer(filepath.Join(r.containerFolder(), entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (r *Runtime) restoreContainer(dir string) error {
	var record containerRecord
	found, err := readRecord(recordFile(dir), &record)
	if err != nil {
		return err
	}
	if !found {
		return os.RemoveAll(dir)
	}
	config := &runtimeapi.ContainerConfig{}
	if err := proto.Unmarshal(record.Config, config); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	c := &container{
		id:        record.ID,
		dir:       dir,
		sandboxID: record.SandboxID,
		config:    config,
		imageName: record.ImageName,
		imageID:   record.ImageID,
		logPath:   record.LogPath,
		created:   record.Created,
		done:      make(chan struct{}),
		state:     record.State,
		started:   record.Started,
		finished:  record.Finished,
		exitCode:  record.ExitCode,
		reason:    record.Reason,
		message:   record.Message,
	}
	close(c.done)
	if c.state != runtimeapi.ContainerState_CONTAINER_EXITED {
		c.state, c.finished = runtimeapi.ContainerState_CONTAINER_EXITED, time.Now()
		c.exitCode, c.reason = exitUnknown, "Unknown"
		c.message = "the node went down while the container ran"
		if err := c.save(); err != nil {
			return err
		}
	}
	r.containers[c.id] = c
	return nil
}
