//! Advice for errors of kubelets, in the options of this program.

use criu_cri::kubelet::{Error, ErrorKind, Party};

/// Returns what to do about an error.
pub(crate) fn of(error: &Error) -> Option<&'static str> {
    Some(match error.kind() {
        ErrorKind::Unreachable(_) => {
            "check the address and the port, which is 10250 unless given, and that no firewall is \
             between; --node asks by way of the API server"
        }
        ErrorKind::NotTls(_) => "check the port: that of a kubelet is 10250",
        ErrorKind::TlsEnded(_) => {
            "check the address; the server has to speak TLS 1.2 or 1.3 with a cipher that is not \
             an old one, see --tls-cipher-suites and --tls-min-version of the kubelet"
        }
        ErrorKind::Untrusted => {
            "give the authority that signs the kubelets' certificates with --ca; a kubelet without \
             one has its own in /var/lib/kubelet/pki/kubelet.crt, to be copied from the node for \
             --ca; --insecure-skip-tls-verify accepts any certificate"
        }
        ErrorKind::WrongName { .. } => {
            "ask by a name in the certificate, or give that name with --tls-server-name"
        }
        ErrorKind::NotInTime(_) => {
            "compare the clocks of both machines, and have the certificate of the node renewed"
        }
        ErrorKind::ClientCertificate { .. } => {
            "give a certificate that the cluster's authority has signed, and that is valid, with \
             --client-certificate and --client-key"
        }
        ErrorKind::Unauthenticated { by: Party::Kubelet, expired: None, .. } => {
            "give --client-certificate and --client-key, --token-file, or --kubeconfig; a kubelet \
             takes tokens only if its webhook authentication is on; --node asks by way of the API \
             server"
        }
        ErrorKind::Unauthenticated { expired: Some(_), .. } => {
            "have a new client certificate signed, or give --token-file"
        }
        ErrorKind::Unauthenticated { .. } => {
            "give --client-certificate and --client-key, --token-file, or another --context"
        }
        ErrorKind::Forbidden { by: Party::Kubelet, .. } => {
            "bind the caller to a ClusterRole with the rule apiGroups: [\"\"], resources: \
             [nodes/checkpoint], verbs: [create]"
        }
        ErrorKind::Forbidden { .. } => {
            "bind the caller to a ClusterRole with the rule apiGroups: [\"\"], resources: \
             [nodes/proxy], verbs: [create]; with --kubelet the right to nodes/checkpoint is \
             enough, which allows nothing else"
        }
        ErrorKind::GateOff => {
            "turn on the kubelet's feature gate ContainerCheckpoint, which is on by default since \
             Kubernetes 1.30, or check the address"
        }
        ErrorKind::NoNode { .. } => "`kubectl get nodes` lists the nodes of the cluster",
        ErrorKind::NoPod { .. } => {
            "`kubectl get pod -o wide -n NAMESPACE POD` says on which node the pod is; a static \
             pod has the name of its node at the end"
        }
        ErrorKind::NoContainer(_) => {
            "`kubectl get pod -n NAMESPACE POD -o jsonpath='{.spec.containers[*].name}'` lists the \
             containers"
        }
        ErrorKind::NotRunning { .. } => "wait until the container runs, and ask again",
        ErrorKind::RuntimeLacks { .. } => {
            "the node needs containerd 2.0 or later, or CRI-O with enable_criu_support, and CRIU"
        }
        ErrorKind::RuntimeTimeout { .. } => "give more time with --timeout",
        ErrorKind::Runtime { .. } => {
            "the reason is in the log of the container runtime on the node, and in CRIU's dump.log"
        }
        ErrorKind::NodeUnreachable { .. } => {
            "check that the node is ready with `kubectl get nodes`, or ask it with --kubelet"
        }
        ErrorKind::Silent { .. } => {
            "the kubelet may go on: look for a new file in its directory, and give --timeout if \
             the container has much memory"
        }
        ErrorKind::Broken(_) | ErrorKind::Garbled(_) => {
            "check that the address is that of a kubelet; look for a new file in its directory"
        }
        ErrorKind::Unsupported(_) => {
            "make a token with `kubectl create token SERVICEACCOUNT`, and give it with --token-file"
        }
        ErrorKind::File { .. }
        | ErrorKind::Malformed { .. }
        | ErrorKind::Certificate(_)
        | ErrorKind::Timeout
        | ErrorKind::Answer { .. }
        | _ => return None,
    })
}
