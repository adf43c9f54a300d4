//! Content of a network namespace.

use std::fmt;
use std::net::IpAddr;

use crate::error::{Error, Fault, Result};
use crate::kept::Bytes;
use crate::kind::{self, Kind};
use crate::namespaces::netlink::{Attribute, Message, Messages};
use crate::proto::{NdType, NetDeviceEntry, NetnsEntry};
use crate::store::Store;
use crate::text::Text;

/// A network namespace of the checkpoint: devices, addresses, routes, rules, and packet filters as
/// text.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Network {
    /// Settings of the namespace.
    pub settings: NetnsEntry,
    /// Devices in the namespace.
    pub devices: Vec<NetDeviceEntry>,
    /// Addresses of the devices.
    pub addresses: Vec<Address>,
    /// Routes of IPv4, then of IPv6.
    pub routes: Vec<Route>,
    /// Rules that choose the table in which a packet's route is looked up.
    pub rules: Vec<Rule>,
    /// Output of `iptables-save`.
    pub iptables: Vec<u8>,
    /// Output of `ip6tables-save`.
    pub ip6tables: Vec<u8>,
    /// Output that `nft list ruleset` would print.
    pub nftables: Vec<u8>,
    /// Number of connections that the kernel tracks.
    pub connections: u64,
}

/// An address of a device. Displays like `ip addr`, without the device.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Address {
    /// Index of the device.
    pub device: u32,
    /// The address.
    pub address: IpAddr,
    /// Length of the network's prefix in bits.
    pub prefix: u8,
    /// Address of the other end of a point-to-point link.
    pub peer: Option<IpAddr>,
}

/// A route. Displays like `ip route`, without the device.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Route {
    /// Destination: an address and the length of its prefix in bits. `None` is everywhere.
    pub to: Option<(IpAddr, u8)>,
    /// The next hop.
    pub via: Option<IpAddr>,
    /// Index of the device.
    pub device: Option<u32>,
    /// Source address of sent packets.
    pub source: Option<IpAddr>,
    /// Number of the table; 254 is the main one, 255 the kernel's own.
    pub table: u32,
    /// `RTN_` number; 1 is a usual route.
    pub kind: u8,
    /// Priority of the route; the lowest wins.
    pub metric: Option<u32>,
}

/// A rule of the policy. Displays like `ip rule`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rule {
    /// Priority of the rule. Rules are tried by rising priority.
    pub priority: u32,
    /// Source of the packets, as an address and the length of its prefix in bits. `None` is
    /// anywhere.
    pub from: Option<(IpAddr, u8)>,
    /// Destination of the packets, in the same form. `None` is anywhere.
    pub to: Option<(IpAddr, u8)>,
    /// The table to look in.
    pub table: u32,
}

impl Network {
    pub(crate) fn read(store: &Store, id: u32) -> Result<Option<Self>> {
        let id = id.into();
        let Some(settings) = store.optional::<NetnsEntry>(kind::NETNS, id)? else {
            return Ok(None);
        };
        let mut devices = Vec::new();
        store.for_each(kind::NETDEV, id, |device| {
            devices.push(device);
            Ok(())
        })?;
        let text = |kind: &Kind| -> Result<Vec<u8>> {
            Ok(store.read(&kind.file_name(id))?.map_or_else(Vec::new, Bytes::into_vec))
        };
        let mut network = Self {
            settings,
            devices,
            addresses: Vec::new(),
            routes: Vec::new(),
            rules: Vec::new(),
            iptables: text(kind::IPTABLES)?,
            ip6tables: text(kind::IP6TABLES)?,
            nftables: text(kind::NFTABLES)?,
            connections: 0,
        };
        messages(store, kind::IFADDR, id, Some(ADDRESS_MAGIC), |message| {
            network.addresses.extend(Address::parse(message)?);
            Ok(())
        })?;
        for kind in [kind::ROUTE, kind::ROUTE6] {
            messages(store, kind, id, Some(ROUTE_MAGIC), |message| {
                network.routes.extend(Route::parse(message)?);
                Ok(())
            })?;
        }
        messages(store, kind::RULE, id, Some(RULE_MAGIC), |message| {
            network.rules.extend(Rule::parse(message)?);
            Ok(())
        })?;
        messages(store, kind::NETNF_CT, id, None, |_| {
            network.connections += 1;
            Ok(())
        })?;
        Ok(Some(network))
    }

    /// Returns the addresses of a device.
    pub fn addresses_of(&self, device: u32) -> impl Iterator<Item = &Address> {
        self.addresses.iter().filter(move |address| address.device == device)
    }

    /// Returns the name of a device by its index.
    pub fn device_name(&self, index: u32) -> Option<Text<'_>> {
        let found = self.devices.iter().find(|device| device.ifindex == index)?;
        Some(Text(&found.name))
    }
}

impl NetDeviceEntry {
    /// Returns the kind of device in the kernel's words. "external" is a device from outside the
    /// tree.
    pub fn type_name(&self) -> &'static str {
        match NdType::try_from(self.r#type) {
            Ok(NdType::Loopback) => "loopback",
            Ok(NdType::Veth) => "veth",
            Ok(NdType::Tun) => "tun",
            Ok(NdType::Extlink) => "external",
            Ok(NdType::Venet) => "venet",
            Ok(NdType::Bridge) => "bridge",
            Ok(NdType::Macvlan) => "macvlan",
            Ok(NdType::Sit) => "sit",
            Err(_) => "unknown",
        }
    }
}

impl Address {
    fn parse(message: Message<'_>) -> Result<Option<Self>, Fault> {
        if message.kind != RTM_NEWADDR {
            return Ok(None);
        }
        // Family, length of the prefix, flags, scope, index of the device.
        let (head, attributes) = message.split::<8>()?;
        let [_, prefix, ..] = head;
        let address = |kind| find(&attributes, kind)?.address();
        let (whole, local) = (address(IFA_ADDRESS), address(IFA_LOCAL));
        let Some(address) = local.or(whole) else {
            return Ok(None);
        };
        let peer = whole.filter(|whole| *whole != address);
        Ok(Some(Self { device: message.u32(&head, 4), address, prefix, peer }))
    }
}

impl Route {
    /// Returns true if somebody configured the route. The kernel makes the routes of the local
    /// table by itself.
    pub fn is_configured(&self) -> bool {
        self.table != LOCAL
    }

    fn parse(message: Message<'_>) -> Result<Option<Self>, Fault> {
        if message.kind != RTM_NEWROUTE {
            return Ok(None);
        }
        // Family, lengths of destination and source, service, table, protocol, scope, type, flags.
        let (head, attributes) = message.split::<12>()?;
        let [_, length, _, _, table, _, _, kind, ..] = head;
        let address = |kind| find(&attributes, kind)?.address();
        let number = |kind| find(&attributes, kind)?.u32();
        Ok(Some(Self {
            to: address(RTA_DST).map(|to| (to, length)),
            via: address(RTA_GATEWAY),
            device: number(RTA_OIF),
            source: address(RTA_PREFSRC),
            table: number(RTA_TABLE).unwrap_or(table.into()),
            kind,
            metric: number(RTA_PRIORITY),
        }))
    }
}

impl Rule {
    fn parse(message: Message<'_>) -> Result<Option<Self>, Fault> {
        if message.kind != RTM_NEWRULE {
            return Ok(None);
        }
        // Family, lengths of destination and source, service, table, two reserved, action, flags.
        let (head, attributes) = message.split::<12>()?;
        let [_, to_length, from_length, _, table, ..] = head;
        let address = |kind| find(&attributes, kind)?.address();
        let number = |kind| find(&attributes, kind)?.u32();
        Ok(Some(Self {
            priority: number(FRA_PRIORITY).unwrap_or(0),
            from: address(FRA_SRC).map(|from| (from, from_length)),
            to: address(FRA_DST).map(|to| (to, to_length)),
            table: number(FRA_TABLE).unwrap_or(table.into()),
        }))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, prefix, peer, .. } = self;
        match peer {
            Some(peer) => write!(f, "{address} peer {peer}/{prefix}"),
            None => write!(f, "{address}/{prefix}"),
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = ["", "", "local ", "broadcast ", "anycast ", "multicast "];
        let others = ["blackhole ", "unreachable ", "prohibit ", "throw ", "nat "];
        let mut kinds = kinds.iter().chain(&others);
        f.write_str(kinds.nth(self.kind.into()).unwrap_or(&"unknown "))?;
        match self.to {
            Some((to, length)) => write!(f, "{to}/{length}")?,
            None => f.write_str("default")?,
        }
        if let Some(via) = self.via {
            write!(f, " via {via}")?;
        }
        if let Some(source) = self.source {
            write!(f, " src {source}")?;
        }
        if let Some(metric) = self.metric {
            write!(f, " metric {metric}")?;
        }
        match self.table {
            MAIN => Ok(()),
            table => write!(f, " table {}", Table(table)),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: from ", self.priority)?;
        match self.from {
            Some((from, length)) => write!(f, "{from}/{length}")?,
            None => f.write_str("all")?,
        }
        if let Some((to, length)) = self.to {
            write!(f, " to {to}/{length}")?;
        }
        write!(f, " lookup {}", Table(self.table))
    }
}

struct Table(u32);

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            253 => f.write_str("default"),
            MAIN => f.write_str("main"),
            LOCAL => f.write_str("local"),
            other => write!(f, "{other}"),
        }
    }
}

fn find<'m, 'a>(attributes: &'m [Attribute<'a>], kind: u16) -> Option<&'m Attribute<'a>> {
    attributes.iter().find(|attribute| attribute.kind == kind)
}

fn messages(
    store: &Store,
    kind: &Kind,
    id: u64,
    magic: Option<u32>,
    mut each: impl FnMut(Message<'_>) -> Result<(), Fault>,
) -> Result<()> {
    let name = kind.file_name(id);
    let Some(bytes) = store.read(&name)? else {
        return Ok(());
    };
    let mut read = || {
        let mut messages = match magic {
            Some(magic) => Messages::after_magic(&bytes, magic)?,
            None => Messages::plain(&bytes),
        };
        while let Some(message) = messages.next()? {
            each(message)?;
        }
        Ok(())
    };
    read().map_err(|fault: Fault| Error::new(name, fault))
}

// The magics of `ip addr save`, `ip route save` and `ip rule save`.
const ADDRESS_MAGIC: u32 = 0x4736_1222;
const ROUTE_MAGIC: u32 = 0x4531_1224;
const RULE_MAGIC: u32 = 0x7170_6986;

// From rtnetlink(7) and its headers.
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const RTM_NEWRULE: u16 = 32;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_TABLE: u16 = 15;
const FRA_DST: u16 = 1;
const FRA_SRC: u16 = 2;
const FRA_PRIORITY: u16 = 6;
const FRA_TABLE: u16 = 15;
/// Number of the main table, which has most routes.
const MAIN: u32 = 254;
/// Number of the table with the kernel's own routes.
const LOCAL: u32 = 255;
