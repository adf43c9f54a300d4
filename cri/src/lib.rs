//! Checkpoints of pods for Kubernetes.
