//! Vocabulary of all machines, which tells nothing about one of them.

use std::collections::HashSet;
use std::sync::OnceLock;

/// Returns true for a part of a path that all machines have.
pub(super) fn is_part(part: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(part) else { return false };
    let is_digit = part.len() == 1 && part.iter().all(u8::is_ascii_digit);
    text.is_empty()
        || text == "."
        || text == ".."
        || is_digit
        || PATHS.has(text)
        || is_library(text)
}

/// Returns true for a part of a path below `/proc` and `/sys` that the kernel gives.
pub(super) fn is_kernel_part(part: &[u8]) -> bool {
    let text = std::str::from_utf8(part).unwrap_or("");
    let letters = text.trim_end_matches(|digit: char| digit.is_ascii_digit());
    KERNEL.has(text) || ["cpu", "node"].contains(&letters)
}

/// Returns true for a word that stays in all names.
pub(super) fn is_word(word: &[u8]) -> bool {
    std::str::from_utf8(word).is_ok_and(|word| WORDS.has(word))
}

/// Returns true for a name of an option of a mount.
pub(super) fn is_option(name: &[u8]) -> bool {
    std::str::from_utf8(name).is_ok_and(|name| OPTIONS.has(name))
}

/// Returns true for a source of a mount that is no device.
pub(super) fn is_mount_source(name: &[u8]) -> bool {
    std::str::from_utf8(name).is_ok_and(|name| name.is_empty() || SOURCES.has(name))
}

/// Returns true for a word of the rules of firewalls.
pub(super) fn is_of_firewall(word: &[u8]) -> bool {
    std::str::from_utf8(word).is_ok_and(|word| FIREWALL.has(word))
}

/// Returns true for a name such as `pipe:[123]`, whose number stays in the images, too.
pub(super) fn is_number_of_kernel(name: &[u8]) -> bool {
    let text = std::str::from_utf8(name).unwrap_or("");
    let Some((kind, number)) = text.split_once(":[") else { return false };
    let is_number = number.strip_suffix(']').is_some_and(|number| number.parse::<u64>().is_ok());
    is_number && (kind == "pipe" || kind == "socket" || KERNEL.has(kind))
}

/// Returns true for the name of a network device that the kernel or an engine gives.
pub(super) fn is_device(name: &[u8]) -> bool {
    let text = std::str::from_utf8(name).unwrap_or("");
    let stem = text.trim_end_matches(|digit: char| digit.is_ascii_digit());
    // An engine's virtual device has a random number, which may be long.
    !text.is_empty() && text.len() - stem.len() <= 4 && DEVICES.contains(&stem)
}

/// Returns true for the file of a library that is on all machines.
fn is_library(name: &str) -> bool {
    let starts = LIBRARIES.iter().filter_map(|start| name.strip_prefix(start));
    let mut rests = starts.filter(|rest| rest.contains(".so"));
    rests.any(|rest| {
        let mut words = rest.split(|char: char| !char.is_ascii_alphanumeric());
        // Directly behind the name there is no letter.
        words.next() == Some("")
            && words.all(|word| {
                word.bytes().all(|byte| byte.is_ascii_digit())
                    || ["so", "x86", "aarch64"].contains(&word)
            })
    })
}

/// A table of words, which is looked up often.
struct Table {
    /// Words with spaces between them.
    text: &'static str,
    words: OnceLock<HashSet<&'static str>>,
}

impl Table {
    const fn new(text: &'static str) -> Self {
        Self { text, words: OnceLock::new() }
    }

    fn has(&self, word: &str) -> bool {
        self.words.get_or_init(|| self.text.split(' ').collect()).contains(word)
    }
}

/// Beginnings of the names of devices that tell nothing about a site.
const DEVICES: &[&str] = &[
    "lo", "eth", "ens", "enp", "veth", "tun", "tap", "br", "docker", "podman", "cni", "sit", "all",
    "default",
];

/// Names of libraries that are on all machines, without their versions.
const LIBRARIES: &[&str] = &[
    "ld-linux",
    "ld-musl",
    "ld",
    "libc",
    "libm",
    "libpthread",
    "libdl",
    "librt",
    "libgcc_s",
    "libstdc++",
    "libz",
    "libcrypt",
    "libcrypto",
    "libssl",
    "libresolv",
    "libnss_files",
    "libnss_dns",
    "libnss_compat",
    "libutil",
];

/// Parts of paths.
static PATHS: Table = Table::new(
    "aarch64-linux-gnu bin boot cgroup console cpu,cpuacct dev etc fd full fuse home hugepages \
     kmsg lib lib32 lib64 local lxcfs media mnt mqueue net net_cls,net_prio null opt proc ptmx \
     pts random root run sbin share shm srv stderr stdin stdout sys terminfo tmp tty unified \
     urandom usr var x86_64-linux-gnu zero zoneinfo",
);

/// Parts of paths below `/proc` and `/sys`.
static KERNEL: Table = Table::new(
    "acpi address all arp asound attr binfmt_misc block boot_id bpf buddyinfo bus cgroup \
     cgroup.controllers cgroup.events cgroup.freeze cgroup.kill cgroup.procs cgroup.stat \
     cgroup.subtree_control cgroup.threads cgroup.type class cmdline comm conf core cpu \
     cpu.cfs_period_us cpu.cfs_quota_us cpu.max cpu.pressure cpu.shares cpu.stat cpu.weight \
     cpuinfo cpuset.cpus cpuset.cpus.effective cpuset.mems cpuset.mems.effective current cwd \
     debug default defrag dev devices diskstats domainname driver driver_override enabled environ \
     exe exec fd fdinfo filesystems firmware forwarding freezer.state fs fscreate gid_map \
     hostname hugepages inotify interrupts io io.max io.pressure io.stat io.weight ip_forward ipc \
     ipv4 ipv6 irq kallsyms kcore kernel key-users keys kmsg latency_stats limits loadavg maps \
     mem meminfo memory memory.current memory.events memory.high memory.limit_in_bytes memory.low \
     memory.max memory.min memory.oom_control memory.peak memory.pressure memory.stat \
     memory.swap.current memory.swap.max memory.usage_in_bytes mm mnt module modules mountinfo \
     mounts mountstats mqueue msg mtu neigh net netstat node ns ns_last_pid numa_maps online \
     oom_adj oom_score oom_score_adj operstate pagemap parameters partitions pci pid \
     pid_for_children pid_max pids.current pids.events pids.max possible power powercap present \
     pressure prev projid_map random raw register root route sched_debug scsi security self \
     selinux sem setgroups shm slabinfo smaps smaps_rollup snmp softirqs stat statistics statm \
     status subsystem swaps sys sysrq-trigger system sysvipc task tcp tcp6 thermal_throttle \
     thread-self threads-max time time_for_children timer_list timer_stats tracing \
     transparent_hugepage udp udp6 uevent uid_map unix uptime user uts uuid version virtual vm \
     vmallocinfo vmstat zoneinfo",
);

/// Words in names: of engines, of systemd, of control groups, of labels.
static WORDS: Table = Table::new(
    "anon besteffort bind blkio btrfs buildah burstable cfg cgroup cgroup2 cls com complain conf \
     conmon container containerd containers cpu cpuacct cpuset cri crio crun db dbus default \
     devices devpts docker domain enforce event exec ext4 file freezer frozen grpc guaranteed gz \
     host hostname hosts hugetlb img init inode invalid io json k8s kubelet kubepods kubernetes \
     latest libpod library localhost log machine max memfd memory misc mount mqueue name net \
     newinstance nfs noatime nodev noexec none nosuid object org overlay perf pid pids pod podman \
     prio private proc r rbind rdma relatime resolv ro rprivate rshared rslave runc runtime rw s0 \
     sandboxes scope service session sha256 shared shm slave slice so sock socket spc storage \
     strictatime swap sysfs system systemd t tar target thawed threaded tmp tmpcopyup tmpfs txt u \
     unconfined unlabeled user userdata v1 v2 vfs xfs yaml zst",
);

/// Names of options of mounts: of the kernel, its file systems, and engines.
static OPTIONS: Table = Table::new(
    "U Z access acdirmax acdirmin acl acregmax acregmin actimeo addr all allocsize allow_other \
     aname async atime attr2 auto auto_da_alloc autodefrag barrier bg bind blkio blksize \
     block_validity bsddf cache cachetag casefold check cifs clientaddr clone_children codepage \
     commit compress compress-force context copy cpu cpu_exclusive cpuacct cpuset cpuset_v2_mode \
     credentials data datacow datadir datadir+ datasum dax debug default_permissions defaults \
     defcontext degraded delalloc delegate_attachs delegate_cmds delegate_maps delegate_progs dev \
     device devices dfltgid dfltuid dioread_lock dioread_nolock dir_mode diratime direct dirsync \
     discard dmask domain errors exec favordynmods fd fg file_mode filestreams flush \
     flushoncommit fmask forcegid forceuid fragment freezer fsc fscontext gid gid_map gqnoenforce \
     gquota group group_id grpquota hard hidepid huge hugetlb idmap ikeep index indirect \
     init_itable inlinecrypt inode32 inode64 inode_readahead_blks intr iocharset iversion \
     journal_async_commit journal_checksum journal_ioprio largeio lazytime local_lock logbsize \
     logbufs logdev lookupcache loose loud lowerdir lowerdir+ mand mapposix max max_batch_time \
     max_inline max_read maxproto memory memory_hugetlb_accounting memory_localevents \
     memory_recursiveprot metacopy metadata_ratio min_batch_time min_size minixdf minproto misc \
     mmap mode mountaddr mountport mountproto mountvers mpol msize name namlen nconnect net_cls \
     net_prio newinstance nfs_export nfsvers noac noacl noalign noatime noattr2 noauto \
     noauto_da_alloc noautodefrag nobarrier noblock_validity nobrl nocopy nocto nodatacow \
     nodatasum nodelalloc nodev nodiratime nodiscard noexec nofail noforcegid noforceuid noikeep \
     noinit_itable noiversion nolargeio nolazytime nolock nologreplay nomand none \
     nooverride_creds noprefix noquota nordirplus norecovery norelatime noresvport noserverino \
     nospace_cache nossd nostrictatime nosuid noswap nosymfollow notmpcopyup notreelog nounix \
     nouser nouser_xattr nouuid nr_blocks nr_inodes nsdelegate o offset override_creds owner \
     pagesize password perf_event pgrp pids pids_localevents pipe_ino port posixacl pqnoenforce \
     pquota private prjquota proto ptmxmode quiet quota rbind rdev rdirplus rdma rec redirect_dir \
     relatime release_agent remount rescue resgid resuid resvport retrans retry rfdno ridmap ro \
     rootcontext rootmode rprivate rro rshared rsize rslave rtdev runbindable rw sb sec seclabel \
     sep serverino shared shortname showexec silent size skip_balance slave soft softreval \
     space_cache ssd ssd_spread strict_encoding strictatime stripe subset subvol subvolid suid \
     sunit swalloc swidth sync thread_pool timeo timeout tmpcopyup trans treelog type uid umask \
     uname unbindable unix upperdir uqnoenforce uquota user user_id user_subvol_rm_allowed \
     user_xattr username users userxattr usrquota utf8 uuid verity vers version volatile wfdno \
     workdir wsize wsync xattr xino z",
);

/// Sources of mounts that are no device.
static SOURCES: Table = Table::new(
    "none proc sysfs tmpfs devtmpfs devpts cgroup cgroup2 mqueue shm udev overlay binfmt_misc \
     debugfs tracefs fusectl configfs securityfs hugetlbfs bpf pstore autofs systemd-1 rootfs",
);

/// Words of `iptables-save` and of `nft list ruleset`.
static FIREWALL: Table = Table::new(
    "ACCEPT ACK ALL BROADCAST COMMIT CONNMARK CRIU CT DNAT DROP ESTABLISHED FIN FORWARD INPUT \
     INVALID LOCAL LOG MARK MASQUERADE MULTICAST NEW NONE NOTRACK OUTPUT POSTROUTING PREROUTING \
     PSH QUEUE REDIRECT REJECT RELATED RETURN RST SNAT SYN TCPMSS TPROXY UNICAST UNTRACKED URG \
     accept add addrtype admin all and arp bridge burst bytes cgroup chain comment connmark \
     conntrack constant continue counter ct daddr day define delete direction dnat dport drop dst \
     dstnat dynamic echo egress elements eq established ether ether_addr exists expires fib \
     filter flags flow forward fully gc ge goto group gt handle helper hook host hour icmp icmp6 \
     icmpv6 ifname igmp iif iifname iiftype in inet inet_proto inet_service ingress input \
     interval invalid ip ip6 ipv4_addr ipv6 ipv6_addr jump l4proto le length level limit lo log \
     lt mac mangle map mark masquerade meta minute missing multiport nat ne net netdev new \
     nexthdr nfproto not notrack oif oifname oiftype or original out output over owner packets \
     persistent physdev policy port postrouting prefix prerouting priority prohibited protocol \
     queue random rate raw recent redirect reject related reply request return route saddr sctp \
     second security set size skgid skuid snat socket sport src srcnat state statistic status \
     table tcp tcpmss th timeout to type typeof udp unreachable untracked update vlan vmap with \
     xt zone",
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_table_has_a_word_twice() {
        for table in [&PATHS, &KERNEL, &WORDS, &OPTIONS, &SOURCES, &FIREWALL] {
            let mut seen = HashSet::new();
            for word in table.text.split(' ') {
                assert!(!word.is_empty() && seen.insert(word), "{word}");
                assert!(table.has(word));
            }
        }
    }
}
