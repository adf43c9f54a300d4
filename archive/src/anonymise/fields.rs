//! Fields of the JSON that engines write, by what their values are.

/// Fields with an object whose keys users give: labels, names of networks.
pub(super) const MAPS: &[&str] = &[
    "annotations",
    "labels",
    // Of a pod: short names and full ones.
    "containers",
    "sysctl",
    "sysctls",
    "networks",
    "newNetworks",
    "networkOptions",
    "interfaces",
    "unified",
    "secrets",
    "envSecrets",
    "storageOpts",
    "hostDeviceList",
    "runtimeConfig",
];

/// Fields of [`MAPS`] whose values are objects of an engine.
pub(super) const MAPS_OF_OBJECTS: &[&str] =
    &["networks", "newNetworks", "networkOptions", "secrets", "envSecrets", "hostDeviceList"];

/// Fields with a name, which may have digits alone.
pub(super) const NAMES: &[&str] = &["name", "hostname", "domainname", "id"];

/// Fields with an environment: `NAME=value`.
pub(super) const ENVIRONMENT: &[&str] = &["env", "Env", "environment"];

/// Fields with a command and its arguments.
pub(super) const ARGUMENTS: &[&str] = &[
    "args",
    "command",
    "Cmd",
    "entrypoint",
    "Entrypoint",
    "createCommand",
    "CreateCommand",
    "containerArgs",
];

/// Fields with options of mounts.
pub(super) const OPTIONS: &[&str] = &["options", "Options", "mountOptions"];

/// Fields whose values are words of the OCI runtime specification or of an engine.
pub(super) const VOCABULARY: &[&str] = &[
    "type",
    "ociVersion",
    "action",
    "defaultAction",
    "architectures",
    "op",
    "flags",
    "access",
    "bounding",
    "effective",
    "permitted",
    "inheritable",
    "ambient",
    "capAdd",
    "capDrop",
    "runtime",
    "ociRuntime",
    "rootfsPropagation",
    "propagation",
    "logDriver",
    "restartPolicy",
    "cgroupManager",
    "cgroupns",
    "driver",
    "scheduler",
    "policy",
    "stopSignal",
    "createdTime",
];

/// Beginnings of the keys that engines give to annotations and labels.
pub(super) const KEPT_PREFIXES: &[&str] = &[
    "io.kubernetes.cri.",
    "io.kubernetes.cri-o.",
    "io.kubernetes.container.",
    "io.kubernetes.pod.",
    "io.container.",
    "io.containers.",
    "io.containerd.",
    "io.podman.annotations.",
    "org.opencontainers.",
    "org.criu.",
    "org.systemd.property.",
    "run.oci.",
];

/// Values of annotations by which an engine is recognised.
pub(super) const KEPT_VALUES: &[(&str, &str)] = &[
    ("io.container.manager", "libpod"),
    ("io.container.manager", "cri-o"),
    ("io.kubernetes.cri.container-type", "container"),
    ("io.kubernetes.cri.container-type", "sandbox"),
    ("io.kubernetes.cri-o.ContainerType", "container"),
    ("io.kubernetes.cri-o.ContainerType", "sandbox"),
];

/// Variables of an environment with values that tell nothing.
pub(super) const KEPT_VARIABLES: &[&str] = &[
    "container=podman",
    "container=oci",
    "TERM=xterm",
    "LANG=C.UTF-8",
    "LANG=C",
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
];

/// Variables of an environment that everybody has, with values that are names elsewhere.
pub(super) const NAMED_VARIABLES: &[&str] = &["HOSTNAME", "USER", "LOGNAME", "HOME", "PWD"];
