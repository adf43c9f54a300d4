//! `network.status`: the addresses of a container of Podman.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::json::{Other, is_empty, or_empty};

/// Networks of a container by name, `network.status`.
pub type Networks = BTreeMap<String, Network>;

/// Network of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Network {
    /// Interfaces by name.
    #[serde(deserialize_with = "or_empty", skip_serializing_if = "is_empty")]
    pub interfaces: BTreeMap<String, Interface>,
    /// All other fields: servers and domains of DNS.
    #[serde(flatten)]
    pub other: Other,
}

/// Interface of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Interface {
    /// Addresses.
    #[serde(deserialize_with = "or_empty", skip_serializing_if = "is_empty")]
    pub subnets: Vec<Subnet>,
    /// Hardware address.
    #[serde(skip_serializing_if = "is_empty")]
    pub mac_address: String,
    /// All other fields.
    #[serde(flatten)]
    pub other: Other,
}

/// Address of an interface.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Subnet {
    /// Address with the length of its prefix: `10.88.0.5/16`.
    pub ipnet: String,
    /// Gateway.
    #[serde(skip_serializing_if = "is_empty")]
    pub gateway: String,
    /// All other fields.
    #[serde(flatten)]
    pub other: Other,
}
