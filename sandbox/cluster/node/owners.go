package node

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/volume"
)

// withoutOwners makes a volume plugin leave its files to the one user that the sandbox's user namespace has: the
// kubelet would give tokens to the pod's runAsUser, and fail because there is no such user.
func withoutOwners(plugins []volume.VolumePlugin) []volume.VolumePlugin {
	wrapped := make([]volume.VolumePlugin, len(plugins))
	for i, plugin := range plugins {
		wrapped[i] = ownerlessPlugin{plugin}
	}
	return wrapped
}

type ownerlessPlugin struct{ volume.VolumePlugin }

func (p ownerlessPlugin) NewMounter(spec *volume.Spec, pod *v1.Pod) (volume.Mounter, error) {
	mounter, err := p.VolumePlugin.NewMounter(spec, pod)
	if err != nil {
		return nil, err
	}
	return ownerlessMounter{mounter}, nil
}

type ownerlessMounter struct{ volume.Mounter }

func (m ownerlessMounter) SetUp(args volume.MounterArgs) error {
	return m.Mounter.SetUp(ownerless(args))
}

func (m ownerlessMounter) SetUpAt(dir string, args volume.MounterArgs) error {
	return m.Mounter.SetUpAt(dir, ownerless(args))
}

func ownerless(args volume.MounterArgs) volume.MounterArgs {
	args.FsUser, args.FsGroup = nil, nil
	return args
}
