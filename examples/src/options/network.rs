//! Sockets.

use clap::Args;
use criu_rs::{External, NetworkLock, Tcp};

use crate::options::applies;
use crate::options::values::Inodes;

/// Options of dump, pre-dump and restore.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Network")]
pub(crate) struct Network {
    /// Save and restore TCP connections
    #[arg(long)]
    tcp_established: Option<bool>,
    /// Drop TCP connections: restored sockets are closed
    #[arg(long)]
    tcp_close: Option<bool>,
    /// Accept unix sockets whose peer is outside the tree: any, or these
    #[arg(
        short = 'x', long, value_name = "INODE,...", num_args = 0..=1, default_missing_value = "",
        require_equals = true
    )]
    ext_unix_sk: Vec<Inodes>,
}

applies! {
    Network to Dump PreDump Restore;
    one [];
    each [];
    with |self, operation, config| {
        // CRIU accepts both together; dropping then wins.
        match (self.tcp_established, self.tcp_close) {
            (_, Some(true)) => operation = operation.tcp(Tcp::Close),
            (Some(true), _) => operation = operation.tcp(Tcp::Established),
            _ => {}
        }
        // Only a configuration file can have switched it on.
        config.switch("tcp-established", self.tcp_established.filter(|on| !on));
        config.switch("tcp-close", self.tcp_close.filter(|on| !on));
        for Inodes(inodes) in &self.ext_unix_sk {
            operation = operation.ext_unix_sk(true);
            for &inode in inodes {
                operation = operation.external(External::UnixSocket(inode));
            }
        }
    }
}

/// Options of dump and pre-dump.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Network")]
pub(crate) struct NetworkSaved {
    /// Leave half-open TCP connections out
    #[arg(long)]
    skip_in_flight: Option<bool>,
    /// The way to keep packets away meanwhile: iptables, nftables or skip
    #[arg(long, value_name = "HOW")]
    network_lock: Option<NetworkLock>,
}

applies! {
    NetworkSaved to Dump PreDump;
    one [network_lock];
    each [];
    with |self, operation, _config| {
        if let Some(on) = self.skip_in_flight {
            operation = operation.tcp_skip_in_flight(on);
        }
    }
}
