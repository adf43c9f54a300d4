//! Names of the members that engines write, from the root of an archive, and of labels.

/// Folder of the images.
pub const CHECKPOINT: &str = "checkpoint";
/// Folder of the images of a pre-dump.
pub const PRE_CHECKPOINT: &str = "pre-checkpoint";
/// Configuration of the container: Podman's own, or the subset that all engines share.
pub const CONFIG_DUMP: &str = "config.dump";
/// OCI runtime specification of the container.
pub const SPEC_DUMP: &str = "spec.dump";
/// Addresses of the container in Podman's networks.
pub const NETWORK_STATUS: &str = "network.status";
/// Files that were added or changed in the container's root file system.
pub const ROOTFS_DIFF: &str = "rootfs-diff.tar";
/// Paths that were deleted from the container's root file system.
pub const DELETED_FILES: &str = "deleted.files";
/// Content of `/dev/shm`.
pub const DEVSHM: &str = "devshm-checkpoint.tar";
/// Folder of the named volumes, each a tar archive.
pub const VOLUMES: &str = "volumes";
/// Folder of what Podman keeps beside a container, such as secrets.
pub const ARTIFACTS: &str = "artifacts";
/// Log of a container of Podman.
pub const PODMAN_LOG: &str = "ctr.log";
/// Log of a container of CRI-O. The member is named after an annotation of `spec.dump`.
pub const CRIO_LOG: &str = "io.kubernetes.cri-o.LogPath";
/// Log of a container of containerd.
pub const CONTAINERD_LOG: &str = "container.log";
/// Bind mounts of a container of CRI-O.
pub const BIND_MOUNTS: &str = "bind.mounts";
/// CRIU's statistics of the dump.
pub const STATS_DUMP: &str = "stats-dump";
/// CRIU's log of the dump.
pub const DUMP_LOG: &str = "dump.log";
/// Status of a container as containerd keeps it.
pub const STATUS: &str = "status";
/// Status of a container as the CRI reports it.
pub const STATUS_DUMP: &str = "status.dump";
/// Containers of a pod.
pub const POD_OPTIONS: &str = "pod.options";
/// Configuration of a pod. No program writes it.
pub const POD_DUMP: &str = "pod.dump";
/// Link targets of the descriptors 0, 1 and 2 of the container's first process, in the folder of
/// the images.
pub const DESCRIPTORS: &str = "descriptors.json";

/// Label of a container with its name in the pod.
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
/// Label of a container with the name of its pod.
pub const POD_NAME: &str = "io.kubernetes.pod.name";
/// Label of a container with the namespace of its pod.
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// Label of a container with the Kubernetes identifier of its pod.
pub const POD_UID: &str = "io.kubernetes.pod.uid";

/// Annotation of `spec.dump` that names the engine: `libpod` or `cri-o`.
pub const MANAGER: &str = "io.container.manager";

/// Returns the folder of the parent set that so many links lead to: `pre-checkpoint`, then
/// `pre-checkpoint-2` and so on.
pub(crate) fn pre_checkpoint(generation: u32) -> String {
    match generation {
        0 | 1 => PRE_CHECKPOINT.to_owned(),
        number => format!("{PRE_CHECKPOINT}-{number}"),
    }
}

/// Returns true for the folder of a parent set.
pub(crate) fn is_pre_checkpoint(part: &str) -> bool {
    let is_number = |rest: &str| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit());
    match part.strip_prefix(PRE_CHECKPOINT) {
        Some("") => true,
        Some(rest) => rest.strip_prefix('-').is_some_and(is_number),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_parent_sets_are_recognised() {
        for generation in [1, 2, 30] {
            assert!(is_pre_checkpoint(&pre_checkpoint(generation)));
        }
        for other in ["", "checkpoint", "pre-checkpoint-", "pre-checkpoint2", "pre-checkpoint-a"] {
            assert!(!is_pre_checkpoint(other), "{other}");
        }
    }
}
