//! The table of what happens to each field.

/// What happens to a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// The field tells nothing about a person or a site, or nothing can be restored without it.
    Keep,
    /// A path.
    Path,
    /// A name.
    Word,
    /// Name of a network device. Usual names stay.
    Device,
    /// Key of something external: a path or a name.
    Key,
    /// Options of a mount, with commas between them.
    Options,
    /// A value of the kernel's own, which may name devices.
    Values,
    /// An IP address as a text. Other texts stay.
    Address,
    /// Address of a unix socket, with its NULs.
    Unix,
    /// An IP address: one number or four.
    Ip,
    /// A hardware address.
    Hardware,
    /// Content.
    Filler,
    /// A `siginfo_t`: what the sender put in is content.
    Siginfo,
    /// Registers: numbers become zero.
    Zero,
}

/// Returns the rule for a field. Fields that hold text or bytes all have a row; numbers without a
/// row are kept.
pub(super) fn rule(message: &str, field: &str) -> Option<Rule> {
    if is_registers(message) && !PLACES.contains(&field) {
        return Some(Rule::Zero);
    }
    let row = FIELDS.iter().find(|(known, name, _)| *known == message && *name == field);
    row.map(|(.., rule)| *rule)
}

/// Returns true for a message that holds registers.
fn is_registers(message: &str) -> bool {
    let is_user = message.starts_with("user_") && message != "user_desc_t";
    is_user && message.ends_with("_entry") && message != "user_x86_cet_entry"
        || message.starts_with("pac_") && message.ends_with("_keys")
}

/// Registers that say where a thread is, and how it runs.
const PLACES: &[&str] = &[
    "ip",
    "sp",
    "cs",
    "ss",
    "ds",
    "es",
    "fs",
    "gs",
    "flags",
    "fs_base",
    "gs_base",
    "orig_ax",
    "mode",
    "cwd",
    "mxcsr",
    "mxcsr_mask",
    "xstate_bv",
    "pkru",
    "pc",
    "pstate",
    "nip",
    "msr",
    "psw_mask",
    "psw_addr",
    "cp0_epc",
    "csr_era",
    "uregs_pc",
];

/// Message, field, rule.
pub(super) const FIELDS: &[(&str, &str, Rule)] = &[
    ("aa_namespace", "name", Rule::Word),
    ("aa_policy", "blob", Rule::Filler),
    ("aa_policy", "name", Rule::Word),
    ("binfmt_misc_entry", "extension", Rule::Word),
    ("binfmt_misc_entry", "flags", Rule::Keep),
    ("binfmt_misc_entry", "interpreter", Rule::Path),
    ("binfmt_misc_entry", "magic", Rule::Keep),
    ("binfmt_misc_entry", "mask", Rule::Keep),
    ("binfmt_misc_entry", "name", Rule::Word),
    ("bpfmap_file_entry", "map_name", Rule::Word),
    // Of a hierarchy without a controller, a name that somebody gave.
    ("cg_controller_entry", "cnames", Rule::Word),
    ("cg_member_entry", "name", Rule::Word),
    ("cg_member_entry", "path", Rule::Path),
    ("cgroup_dir_entry", "dir_name", Rule::Path),
    ("cgroup_prop_entry", "name", Rule::Keep),
    ("cgroup_prop_entry", "value", Rule::Values),
    ("cpuinfo_x86_entry", "model_id", Rule::Keep),
    ("creds_entry", "apparmor_data", Rule::Filler),
    ("creds_entry", "lsm_profile", Rule::Word),
    ("creds_entry", "lsm_sockcreate", Rule::Word),
    ("fanotify_mount_mark_entry", "path", Rule::Path),
    ("fdinfo_entry", "xattr_security_selinux", Rule::Word),
    ("fh_entry", "path", Rule::Path),
    ("ghost_file_entry", "symlnk_target", Rule::Path),
    // A file name of CRIU's own.
    ("img_streamer_request_entry", "filename", Rule::Keep),
    ("inet_sk_entry", "dst_addr", Rule::Ip),
    ("inet_sk_entry", "ifname", Rule::Device),
    ("inet_sk_entry", "src_addr", Rule::Ip),
    // A random number.
    ("inventory_entry", "dump_criu_run_id", Rule::Keep),
    ("irmap_cache_entry", "path", Rule::Path),
    ("memfd_inode_entry", "name", Rule::Word),
    ("mnt_entry", "ext_key", Rule::Key),
    ("mnt_entry", "fsname", Rule::Keep),
    ("mnt_entry", "mountpoint", Rule::Path),
    ("mnt_entry", "options", Rule::Options),
    ("mnt_entry", "root", Rule::Path),
    ("mnt_entry", "source", Rule::Key),
    ("net_device_entry", "address", Rule::Hardware),
    ("net_device_entry", "name", Rule::Device),
    ("netns_entry", "ext_key", Rule::Key),
    ("packet_mclist", "addr", Rule::Hardware),
    ("pidns_entry", "ext_key", Rule::Key),
    ("plugins_entry", "plugins", Rule::Keep),
    ("reg_file_entry", "name", Rule::Path),
    ("seccomp_filter", "filter", Rule::Keep),
    ("siginfo_entry", "siginfo", Rule::Siginfo),
    ("sk_opts_entry", "so_bound_dev", Rule::Device),
    // An address, or a word of the kernel's own, such as that of a congestion control.
    ("sysctl_entry", "sarg", Rule::Address),
    ("task_core_entry", "comm", Rule::Word),
    ("thread_core_entry", "comm", Rule::Word),
    ("tty_data_entry", "data", Rule::Filler),
    ("tunfile_entry", "netdev", Rule::Device),
    ("unix_sk_entry", "name", Rule::Unix),
    ("unix_sk_entry", "name_dir", Rule::Path),
    ("utsns_entry", "domainname", Rule::Word),
    ("utsns_entry", "nodename", Rule::Word),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::{ALL, Entries};
    use crate::schema::{Message, Type};

    fn walk(
        message: &'static Message,
        seen: &mut Vec<&'static str>,
        each: &mut impl FnMut(&'static Message),
    ) {
        if seen.contains(&message.name) {
            return;
        }
        seen.push(message.name);
        each(message);
        for field in message.fields {
            if let Type::Message(inner) = field.kind {
                walk(inner, seen, each);
            }
        }
    }

    #[test]
    fn every_text_has_a_rule() {
        let mut seen = Vec::new();
        let mut used = Vec::new();
        let mut missing = Vec::new();
        for kind in ALL.iter().filter(|kind| kind.entries != Entries::Raw) {
            let message = Message::by_name(kind.message).unwrap();
            walk(message, &mut seen, &mut |message| {
                for field in message.fields {
                    used.push((message.name, field.name));
                    let is_text = matches!(field.kind, Type::String | Type::Bytes);
                    if is_text && rule(message.name, field.name).is_none() {
                        missing.push((message.name, field.name));
                    }
                }
            });
        }
        assert!(missing.is_empty(), "{missing:?}");
        for (message, field, _) in FIELDS {
            let of_criu = *message == "img_streamer_request_entry";
            assert!(of_criu || used.contains(&(message, field)), "{message}.{field}");
        }
    }

    #[test]
    fn registers_are_those_of_all_processors() {
        let core = Message::by_name("core_entry").unwrap();
        let mut registers = Vec::new();
        walk(core, &mut Vec::new(), &mut |message| {
            if is_registers(message.name) {
                registers.push(message.name);
            }
        });
        for processor in
            ["x86", "arm", "aarch64", "ppc64", "s390", "mips", "loongarch64", "riscv64"]
        {
            let is_there =
                registers.iter().any(|name| name.starts_with(&format!("user_{processor}_")));
            assert!(is_there, "{processor}: {registers:?}");
        }
    }
}
