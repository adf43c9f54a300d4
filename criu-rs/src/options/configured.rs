//! Settings of configuration files as options of a request.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::config::{ConfigError, Setting};
use crate::rpc::{
    CgroupRoot, CriuCgMode, CriuNetworkLockMethod, CriuOpts, CriuPageServerInfo, CriuPreDumpMode,
    CriuVethPair, ExtMountMap, JoinNamespace, UnixSk,
};
use crate::value::{AfterDump, CgroupMode, CpuCap, JoinableNs, NetworkLock};

/// The options that the settings of some files amount to.
#[derive(Debug, Default)]
pub(super) struct Configured {
    /// The options that a request has, too, except the lists.
    pub(super) message: CriuOpts,
    /// The options of which there can be several. CRIU adds those of files and of a request.
    pub(super) lists: CriuOpts,
    /// `images-dir`.
    pub(super) images: Option<Setting>,
    /// `work-dir`.
    pub(super) work: Option<Setting>,
    /// `log-file`.
    pub(super) log: Option<Setting>,
    /// The fate of the tasks.
    pub(super) after: Option<(AfterDump, Setting)>,
    /// `network-lock`.
    pub(super) network_lock: Option<Setting>,
    /// `page-server`, on or off.
    pub(super) page_server: Option<bool>,
    server: CriuPageServerInfo,
}

impl Configured {
    /// Reads settings in their order.
    ///
    /// # Errors
    /// A setting that CRIU does not accept, or that cannot be true for a request.
    pub(super) fn of(settings: &[Setting]) -> Result<Self, ConfigError> {
        let mut configured = Self::default();
        for setting in settings {
            configured.take(setting)?;
        }
        if configured.page_server == Some(true) {
            configured.message.ps = Some(configured.server.clone());
        }
        Ok(configured)
    }

    fn take(&mut self, setting: &Setting) -> Result<(), ConfigError> {
        let (name, on) = setting.switch();
        let value = setting.value().as_bytes();
        if let Some((_, why)) = REFUSED.iter().find(|(known, _)| *known == name) {
            return Err(setting.refused(*why));
        }
        if let Some((_, field)) = SWITCHES.iter().find(|(known, _)| *known == name) {
            *field(&mut self.message) = Some(on);
        } else if let Some((_, field)) = TEXTS.iter().find(|(known, _)| *known == name) {
            *field(&mut self.message) = Some(value.to_vec());
        } else if let Some((_, field)) = LISTS.iter().find(|(known, _)| *known == name) {
            field(&mut self.lists).push(value.to_vec());
        } else if let Some((_, field)) = NUMBERS.iter().find(|(known, _)| *known == name) {
            *field(&mut self.message) = Some(number(setting)?);
        } else {
            self.take_special(name, on, setting)?;
        }
        Ok(())
    }

    /// Takes a setting that is not simply a field of the request.
    fn take_special(&mut self, name: &str, on: bool, setting: &Setting) -> Result<(), ConfigError> {
        let (message, lists) = (&mut self.message, &mut self.lists);
        let value = setting.value().as_bytes();
        let wants = |form: &str| setting.refused(format!("CRIU wants {form}"));
        let parts = |separator: u8, form: &str| halves(value, separator).ok_or_else(|| wants(form));
        match name {
            "images-dir" => self.images = Some(setting.clone()),
            "work-dir" => self.work = Some(setting.clone()),
            "log-file" => self.log = Some(setting.clone()),
            "leave-running" => self.after = Some((AfterDump::LeaveRunning, setting.clone())),
            "leave-stopped" => self.after = Some((AfterDump::LeaveStopped, setting.clone())),
            "page-server" => self.page_server = Some(on),
            "address" => self.server.address = Some(value.to_vec()),
            "port" => self.server.port = Some(parsed(setting, "a port")?),
            "ghost-limit" => message.ghost_limit = Some(size(value)),
            "compress" => message.compress = Some(1),
            "empty-ns" => match value {
                b"net" => message.empty_ns = Some(super::table::CLONE_NEWNET),
                _ => return Err(wants("`net`")),
            },
            "cpu-cap" => {
                let groups = cpu_cap(value).ok_or_else(|| wants("groups of CPU features"))?;
                message.cpu_cap = Some(groups.bits());
            }
            "manage-cgroups" => {
                let mode = match &setting.value {
                    Some(_) => parsed(setting, "a mode such as soft")?,
                    None => CgroupMode::Soft,
                };
                message.manage_cgroups_mode = Some(CriuCgMode::from(mode).into());
            }
            "network-lock" => {
                let lock: NetworkLock = parsed(setting, "iptables, nftables or skip")?;
                message.network_lock = Some(CriuNetworkLockMethod::from(lock).into());
                self.network_lock = Some(setting.clone());
            }
            "pre-dump-mode" => {
                let mode = match value {
                    b"read" => CriuPreDumpMode::VmRead,
                    b"splice" => CriuPreDumpMode::Splice,
                    _ => return Err(wants("read or splice")),
                };
                message.pre_dump_mode = Some(mode.into());
            }
            "ext-unix-sk" => {
                message.ext_unix_sk = Some(true);
                let ids = value.split(|byte| *byte == b',').filter_map(decimal);
                lists.unix_sk_ino.extend(ids.map(|inode| UnixSk { inode }));
            }
            "ext-mount-map" if value == b"auto" => message.auto_ext_mnt = Some(true),
            "ext-mount-map" => {
                let (key, val) = parts(b':', "KEY:VALUE")?;
                lists.ext_mnt.push(ExtMountMap { key, val });
            }
            "veth-pair" => {
                let (if_in, if_out) = parts(b'=', "INNER=OUTER")?;
                lists.veths.push(CriuVethPair { if_in, if_out });
            }
            "cgroup-root" => {
                let (ctrl, path) = match halves(value, b':') {
                    Some((controller, path)) => (Some(controller), path),
                    None => (None, value.to_vec()),
                };
                lists.cg_root.push(CgroupRoot { ctrl, path });
            }
            "join-ns" => {
                let (kind, place) = parts(b':', "KIND:PLACE")?;
                let kind = std::str::from_utf8(&kind).ok().and_then(|kind| kind.parse().ok());
                let kind: JoinableNs = kind.ok_or_else(|| wants("a kind of namespace"))?;
                let (ns_file, extra_opt) = match halves(&place, b',') {
                    Some((file, extra)) => (file, Some(extra)),
                    None => (place, None),
                };
                lists.join_ns.push(JoinNamespace { ns: kind.name().into(), ns_file, extra_opt });
            }
            // Without effect on a request, or on what a request is judged by.
            _ => {}
        }
        Ok(())
    }
}

type Field<T> = fn(&mut CriuOpts) -> &mut T;

/// Settings that no operation of this crate can go on with, and the reasons.
const REFUSED: &[(&str, &str)] = &[
    ("status-fd", DESCRIPTOR),
    ("ps-socket", DESCRIPTOR),
    ("inherit-fd", DESCRIPTOR),
    ("close", DESCRIPTOR),
    ("help", "criu prints its help and ends"),
    ("version", "criu prints its version and ends"),
    ("ms", "criu has given this option up, and ends"),
];

const DESCRIPTOR: &str = "the number is that of a descriptor of the criu process, which is started \
                          with descriptors of its own";

const SWITCHES: &[(&str, Field<Option<bool>>)] = &[
    ("restore-sibling", |opts| &mut opts.rst_sibling),
    ("tcp-established", |opts| &mut opts.tcp_established),
    ("tcp-close", |opts| &mut opts.tcp_close),
    ("skip-in-flight", |opts| &mut opts.tcp_skip_in_flight),
    ("evasive-devices", |opts| &mut opts.evasive_devices),
    ("link-remap", |opts| &mut opts.link_remap),
    ("shell-job", |opts| &mut opts.shell_job),
    ("file-locks", |opts| &mut opts.file_locks),
    ("track-mem", |opts| &mut opts.track_mem),
    ("auto-dedup", |opts| &mut opts.auto_dedup),
    ("force-irmap", |opts| &mut opts.force_irmap),
    ("enable-external-sharing", |opts| &mut opts.ext_sharing),
    ("enable-external-masters", |opts| &mut opts.ext_masters),
    ("lazy-pages", |opts| &mut opts.lazy_pages),
    ("display-stats", |opts| &mut opts.display_stats),
    ("weak-sysctls", |opts| &mut opts.weak_sysctls),
    ("stream", |opts| &mut opts.stream),
    ("tls", |opts| &mut opts.tls),
    ("tls-no-cn-verify", |opts| &mut opts.tls_no_cn_verify),
    ("skip-file-rwx-check", |opts| &mut opts.skip_file_rwx_check),
    ("mntns-compat-mode", |opts| &mut opts.mntns_compat_mode),
    ("unprivileged", |opts| &mut opts.unprivileged),
];

const TEXTS: &[(&str, Field<Option<Vec<u8>>>)] = &[
    ("root", |opts| &mut opts.root),
    ("prev-images-dir", |opts| &mut opts.parent_img),
    ("freeze-cgroup", |opts| &mut opts.freeze_cgroup),
    ("lsm-profile", |opts| &mut opts.lsm_profile),
    ("lsm-mount-context", |opts| &mut opts.lsm_mount_context),
    ("cgroup-props", |opts| &mut opts.cgroup_props),
    ("cgroup-props-file", |opts| &mut opts.cgroup_props_file),
    ("cgroup-yard", |opts| &mut opts.cgroup_yard),
    ("tls-cacert", |opts| &mut opts.tls_cacert),
    ("tls-cacrl", |opts| &mut opts.tls_cacrl),
    ("tls-cert", |opts| &mut opts.tls_cert),
    ("tls-key", |opts| &mut opts.tls_key),
];

const LISTS: &[(&str, Field<Vec<Vec<u8>>>)] = &[
    ("external", |opts| &mut opts.external),
    ("skip-mnt", |opts| &mut opts.skip_mnt),
    ("enable-fs", |opts| &mut opts.enable_fs),
    ("irmap-scan-path", |opts| &mut opts.irmap_scan_paths),
    ("cgroup-dump-controller", |opts| &mut opts.cgroup_dump_controller),
    ("plugin-option", |opts| &mut opts.plugin_options),
];

const NUMBERS: &[(&str, Field<Option<u32>>)] = &[
    ("timeout", |opts| &mut opts.timeout),
    ("compress-acceleration", |opts| &mut opts.compress_acceleration),
    ("compress-block", |opts| &mut opts.compress_block_size),
    ("decompress-threads", |opts| &mut opts.decompress_threads),
];

fn number(setting: &Setting) -> Result<u32, ConfigError> {
    parsed(setting, "a number")
}

fn parsed<T: FromStr>(setting: &Setting, form: &str) -> Result<T, ConfigError> {
    let text = setting.value().to_str().map(str::trim);
    text.and_then(|text| text.parse().ok())
        .ok_or_else(|| setting.refused(format!("CRIU wants {form}, found {:?}", setting.value())))
}

/// Reads a size as CRIU does: the number at the start, and a letter anywhere.
fn size(text: &[u8]) -> u32 {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit());
    let number = digits
        .fold(0u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
    let shift = match () {
        () if text.contains(&b'K') => 10,
        () if text.contains(&b'M') => 20,
        () if text.contains(&b'G') => 30,
        () => 0,
    };
    u32::try_from(number.saturating_mul(1 << shift)).unwrap_or(u32::MAX)
}

/// Reads groups of CPU features. CRIU starts with all of them.
fn cpu_cap(text: &[u8]) -> Option<CpuCap> {
    let all = CpuCap::FPU | CpuCap::CPU | CpuCap::INS;
    let (mut groups, mut rest, mut is_inverse) = (all, text, false);
    loop {
        let (word, group) = match rest {
            [] => return Some(if groups.is_empty() { groups } else { groups | CpuCap::IMAGE }),
            [b'^', more @ ..] => {
                (is_inverse, rest) = (!is_inverse, more);
                continue;
            }
            [b',', more @ ..] => {
                (is_inverse, rest) = (false, more);
                continue;
            }
            _ if rest.starts_with(b"fpu") => (3, CpuCap::FPU),
            _ if rest.starts_with(b"all") => (3, all),
            _ if rest.starts_with(b"cpu") => (3, CpuCap::CPU),
            _ if rest.starts_with(b"ins") => (3, CpuCap::INS),
            _ if rest.starts_with(b"none") => {
                groups = if is_inverse { all } else { CpuCap::empty() };
                rest = rest.get(4..).unwrap_or_default();
                continue;
            }
            _ => return None,
        };
        groups.set(group, !is_inverse);
        rest = rest.get(word..).unwrap_or_default();
    }
}

fn halves(text: &[u8], separator: u8) -> Option<(Vec<u8>, Vec<u8>)> {
    let at = text.iter().position(|byte| *byte == separator)?;
    Some((text.get(..at)?.to_vec(), text.get(at + 1..)?.to_vec()))
}

fn decimal(digits: &[u8]) -> Option<u32> {
    std::str::from_utf8(digits).ok()?.trim().parse().ok()
}

/// Returns the path in a setting, as criu sees it from its own current directory.
pub(super) fn path(setting: &Setting) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(setting.value().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(text: &str) -> Result<Configured, String> {
        let settings = Setting::parse("x.conf", text.as_bytes()).map_err(|e| e.to_string())?;
        Configured::of(&settings).map_err(|error| error.to_string())
    }

    #[test]
    fn settings_are_options_of_a_request() {
        let found = configured(
            "tcp-established\nfile-locks\nno-file-locks\nghost-limit 2M\nlsm-profile apparmor:x\n\
             external mnt[/data]:data\nexternal file[1:2]\nprev-images-dir ../0\nport 7\n\
             address 127.0.0.1\npage-server\nmanage-cgroups full\nnetwork-lock none\n\
             join-ns net:/x,y\nleave-stopped\nleave-running\nwork-dir /logs\ncpu-cap=^fpu\n",
        )
        .unwrap();
        let message = found.message;
        assert_eq!(message.tcp_established, Some(true));
        assert_eq!(message.file_locks, Some(false));
        assert_eq!(message.ghost_limit, Some(2 << 20));
        assert_eq!(message.lsm_profile.as_deref(), Some(&b"apparmor:x"[..]));
        assert_eq!(message.parent_img.as_deref(), Some(&b"../0"[..]));
        assert_eq!(message.manage_cgroups_mode(), CriuCgMode::Soft);
        assert_eq!(message.network_lock(), CriuNetworkLockMethod::Skip);
        assert_eq!(message.cpu_cap, Some(2 | 4 | 8));
        let server = message.ps.unwrap();
        assert_eq!((server.port, server.address.as_deref()), (Some(7), Some(&b"127.0.0.1"[..])));
        assert_eq!(found.lists.external.len(), 2);
        assert_eq!(found.lists.join_ns[0].extra_opt.as_deref(), Some(&b"y"[..]));
        assert_eq!(found.after.unwrap().0, AfterDump::LeaveRunning);
        assert_eq!(path(&found.work.unwrap()), PathBuf::from("/logs"));
    }

    #[test]
    fn an_address_alone_is_no_page_server() {
        assert_eq!(configured("address 127.0.0.1\nport 7\n").unwrap().message.ps, None);
        let off = configured("page-server\nport 7\nno-page-server\n").unwrap();
        assert_eq!((off.message.ps, off.page_server), (None, Some(false)));
    }

    #[test]
    fn a_setting_that_cannot_be_true_is_named_with_its_line() {
        for (text, line, option) in [
            ("tcp-close\nstatus-fd 3\n", 2, "status-fd"),
            ("close 3\n", 1, "close"),
            ("inherit-fd fd[3]:x\n", 1, "inherit-fd"),
            ("ps-socket 3\n", 1, "ps-socket"),
            ("\nversion\n", 2, "version"),
            ("network-lock yes\n", 1, "network-lock"),
            ("port http\n", 1, "port"),
            ("join-ns net\n", 1, "join-ns"),
        ] {
            let refused = configured(text).unwrap_err();
            assert!(refused.starts_with(&format!("x.conf:{line}: {option}: ")), "{refused}");
        }
    }
}
