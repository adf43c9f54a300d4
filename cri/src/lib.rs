//! Checkpoints of pods for Kubernetes.

pub mod kubelet;
