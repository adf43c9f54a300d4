//! The requests of libcriu to criu, beside those of this crate: each option alone, with each
//! libcriu that is there. This program is also the criu that they talk to.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{IoSlice, IoSliceMut};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use criu_lab::harness::{self, Failed, Trial};
use criu_lab::{place, scratch};
use criu_rs::rpc::{
    CriuDumpResp, CriuOpts, CriuReq, CriuReqType, CriuResp, CriuRestoreResp, CriuVersion,
};
use criu_rs::{
    AfterDump, CgroupMode, Compression, Criu, Dir, Dump, External, HookResult, Hooks, ImageIo,
    JoinNs, JoinableNs, LogLevel, LsmProfile, NetworkLock, Pid, PreDump, PreDumpMode, Restore, Tcp,
    Tls,
};
use nix::sys::socket::{MsgFlags, recvmsg, sendmsg};
use prost::Message;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    if let [_, swrk, socket] = words.as_slice() {
        if swrk == "swrk" {
            criu(socket.parse().unwrap());
            return ExitCode::SUCCESS;
        }
    }
    let mut trials = vec![
        Trial::test("a_library_that_is_none_is_named", none),
        Trial::test("what_libcriu_does_not_take_is_refused", bad_value),
    ];
    for (suite, lacking) in LACKING {
        trials
            .push(Trial::test(format!("{suite}::each_option_is_carried_or_refused"), move || {
                each(suite, lacking)
            }));
        trials.push(Trial::test(format!("{suite}::hooks_are_called_and_may_refuse"), move || {
            hooks(suite)
        }));
    }
    harness::run(trials)
}

/// What each libcriu cannot carry, besides what none can: of Debian's suites.
const LACKING: [(&str, &[&[&str]]); 3] = [
    ("bookworm", &[NOT_BEFORE_4_3, &["empty_net_ns", "skip_file_rwx_check", "unprivileged"]]),
    ("trixie", &[NOT_BEFORE_4_3]),
    ("experimental", &[]),
];

const NOT_BEFORE_4_3: &[&str] = &[
    "compress",
    "config_file",
    "decompress_threads",
    "display_stats",
    "image_io",
    "lazy_pages",
    "leave_stopped",
    "page_server",
    "plugin_option",
    "tls",
];

/// What none can: timeouts are not sent, the others have no function.
const NEVER: &[&str] = &["timeout", "images_dir"];

/// A criu that takes any request for a success, and leaves it in the images directory. With a
/// hook's name as its log it calls that hook.
fn criu(socket: i32) {
    let receive = || {
        let mut bytes = vec![0; 1 << 20];
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let received = recvmsg::<()>(socket, &mut parts, None, MsgFlags::empty());
        let length = received.map_or(0, |message| message.bytes);
        bytes.truncate(length);
        bytes
    };
    let send = |reply: CriuResp| {
        let bytes = reply.encode_to_vec();
        let _ = sendmsg::<()>(socket, &[IoSlice::new(&bytes)], &[], MsgFlags::MSG_NOSIGNAL, None);
    };
    let mut bytes = receive();
    let mut request = CriuReq::decode(bytes.as_slice()).unwrap();
    let version = || Some(CriuVersion { major_number: 4, minor_number: 3, ..Default::default() });
    // The version is asked for first, on the same connection.
    if request.r#type() == CriuReqType::Version && request.keep_open() {
        let r#type = request.r#type;
        send(CriuResp { r#type, success: true, version: version(), ..Default::default() });
        bytes = receive();
        request = CriuReq::decode(bytes.as_slice()).unwrap();
    }
    let mut reply = CriuResp { r#type: request.r#type, success: true, ..Default::default() };
    reply.version = (request.r#type() == CriuReqType::Version).then(version).flatten();
    if let Some(opts) = &request.opts {
        let parent = nix::unistd::getppid();
        let place = match &opts.images_dir {
            Some(path) => PathBuf::from(OsStr::from_bytes(path)),
            None => PathBuf::from(format!("/proc/{parent}/fd/{}", opts.images_dir_fd)),
        };
        fs::write(place.join("request"), &bytes).unwrap();
        if opts.log_file() == b"pre-dump.hook" {
            let script = Some(b"pre-dump".to_vec());
            let notify = Some(criu_rs::rpc::CriuNotify { script, pid: None });
            let kind = CriuReqType::Notify.into();
            send(CriuResp { r#type: kind, success: true, notify, ..Default::default() });
            reply.success = CriuReq::decode(receive().as_slice()).unwrap().notify_success();
        }
    }
    // Without which libcriu crashes.
    if request.r#type() == CriuReqType::Dump {
        reply.dump = Some(CriuDumpResp { restored: Some(false) });
    }
    if request.r#type() == CriuReqType::Restore {
        reply.restore = Some(CriuRestoreResp { pid: 1 });
    }
    send(reply);
}

type Ask = Box<dyn Fn(&Criu, &Path) -> criu_rs::Result<()>>;

fn library(suite: &str) -> Result<PathBuf, Failed> {
    let library = place::target_dir().join("criu").join(suite).join("link/libcriu.so.2");
    if library.exists() { Ok(library) } else { Err("run `cargo xtask setup --tests`".into()) }
}

/// A process to name.
struct Sleep(Child);

impl Sleep {
    fn start() -> Self {
        Self(Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap())
    }

    fn pid(&self) -> Pid {
        Pid::from(&self.0)
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// Returns the options of the request, without numbers of descriptors. The request for hooks is
/// left out, too, because libcriu always makes it.
fn asked(images: &Path) -> CriuOpts {
    let request = fs::read(images.join("request")).unwrap();
    let mut opts = CriuReq::decode(request.as_slice()).unwrap().opts.unwrap();
    opts.images_dir_fd = 0;
    opts.work_dir_fd = opts.work_dir_fd.map(|_| 0);
    opts.pidfd_store_sk = opts.pidfd_store_sk.map(|_| 0);
    opts.notify_scripts = None;
    opts
}

fn each(suite: &str, lacking: &[&[&str]]) -> Result<(), Failed> {
    let exe = std::env::current_exe()?;
    let (ours, theirs) = (Criu::at(&exe), Criu::load_libcriu(library(suite)?, &exe)?);
    let sleep = Sleep::start();
    let mut refused = BTreeMap::new();
    for (name, ask) in questions(sleep.pid()) {
        let [want, found] =
            ["ours", "theirs"].map(|who| scratch(&format!("libcriu-{suite}-{name}-{who}")));
        ask(&ours, &want).map_err(|error| format!("{name}: {error}"))?;
        match ask(&theirs, &found) {
            Ok(()) if asked(&want) == asked(&found) => {}
            Ok(()) => {
                let (want, found) = (asked(&want), asked(&found));
                return Err(format!("{name}: {found:?} instead of {want:?}").into());
            }
            Err(error) => _ = refused.insert(name, error.to_string()),
        }
    }
    let names: Vec<_> = refused.keys().copied().collect();
    let mut want: Vec<_> = NEVER.iter().chain(lacking.iter().copied().flatten()).copied().collect();
    want.sort_unstable();
    if names == want && refused.values().all(|why| why.contains("libcriu")) {
        Ok(())
    } else {
        Err(format!("refused: {refused:#?}, wanted {want:?}").into())
    }
}

/// Every option alone.
fn questions(pid: Pid) -> Vec<(&'static str, Ask)> {
    macro_rules! of {
        ($start:expr; $($name:ident ($($argument:expr),*)),* $(,)?) => {
            vec![$((stringify!($name), Box::new(move |criu: &Criu, images: &Path| {
                $start(images).$name($($argument),*).run(criu).map(|_| ())
            }) as Ask)),*]
        };
    }
    let dump = move |images: &Path| Dump::new(pid, images.to_owned());
    let mut all = of![dump;
        log_level(LogLevel::Debug), log_file("x.log"), work_dir("/tmp"), config_file("/dev/null"),
        unprivileged(true), after_dump(AfterDump::LeaveRunning), ext_unix_sk(true),
        tcp(Tcp::Established), tcp_skip_in_flight(true), network_lock(NetworkLock::Nftables),
        evasive_devices(true), shell_job(true), file_locks(true), link_remap(true),
        ghost_limit(4096), external(External::UnixSocket(1)), empty_net_ns(true), skip_mnt("/x"),
        auto_ext_mnt(true), ext_sharing(true), ext_masters(true), enable_fs("all"),
        force_irmap(true), irmap_scan_path("/etc"), manage_cgroups(CgroupMode::Full),
        cgroup_root(Some("memory"), "/x"), cgroup_props("x"), cgroup_props_file("/x"),
        cgroup_dump_controller("memory"), freeze_cgroup("/x"), timeout(Duration::from_secs(1)),
        parent_img("../0"), track_mem(true), auto_dedup(true), page_server("127.0.0.1", 7),
        tls(Tls::new().ca("/a").revoked("/b").certificate("/c").key("/d").any_name()),
        image_io(ImageIo::Direct), compress(Compression::new().acceleration(2).block_size(4096)),
        plugin_option("x.y=z"), display_stats(true), orphan_pts_master(true),
    ];
    all.push((
        "leave_stopped",
        Box::new(move |criu: &Criu, images: &Path| {
            dump(images).after_dump(AfterDump::LeaveStopped).run(criu).map(|_| ())
        }),
    ));
    all.push((
        "images_dir",
        Box::new(move |criu: &Criu, images: &Path| {
            Dump::new(pid, Dir::opened_by_criu(images)).run(criu).map(|_| ())
        }),
    ));
    all.extend(of![move |images: &Path| PreDump::new(pid, images.to_owned());
        pre_dump_mode(PreDumpMode::Read),
    ]);
    all.extend(of![|images: &Path| Restore::new(images.to_owned());
        join_ns(JoinNs::path(JoinableNs::Net, "/x")), root("/mnt"), mntns_compat_mode(true),
        cgroup_yard("/x"), lazy_pages(true), decompress_threads(2),
        lsm_profile(LsmProfile::Apparmor("x".into())), lsm_mount_context("a:b:c".parse().unwrap()),
        weak_sysctls(true), skip_file_rwx_check(true), exec_cmd(["true", "x"]),
    ]);
    all
}

/// What libcriu itself does not take is refused, too.
fn bad_value() -> Result<(), Failed> {
    let criu = Criu::load_libcriu(library("experimental")?, std::env::current_exe()?)?;
    let (sleep, images) = (Sleep::start(), scratch("libcriu-bad"));
    let dump = Dump::new(sleep.pid(), &images).compress(Compression::new().block_size(4097));
    let error = dump.run(&criu).unwrap_err().to_string();
    assert!(error.contains("criu_local_set_compress_block_size fails"), "{error}");
    Ok(())
}

#[derive(Default)]
struct Count(u32, bool);

impl Hooks for Count {
    fn pre_dump(&mut self) -> HookResult {
        self.0 += 1;
        if self.1 { Err("not now".into()) } else { Ok(()) }
    }
}

fn hooks(suite: &str) -> Result<(), Failed> {
    let criu = Criu::load_libcriu(library(suite)?, std::env::current_exe()?)?;
    let sleep = Sleep::start();
    for refuse in [false, true] {
        let images = scratch(&format!("libcriu-{suite}-hook"));
        let mut count = Count(0, refuse);
        let dump = Dump::new(sleep.pid(), &images).log_file("pre-dump.hook");
        let result = dump.run_with(&criu, &mut count);
        assert_eq!((count.0, result.is_err()), (1, refuse), "{result:?}");
        if refuse {
            let error = result.unwrap_err().to_string();
            assert!(error.contains("not now"), "{error}");
        }
    }
    Ok(())
}

fn none() -> Result<(), Failed> {
    for (library, why) in
        [("/nonexistent.so", "nonexistent"), ("libc.so.6", "criu_local_init_opts")]
    {
        let error = Criu::load_libcriu(library, "criu").unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    Ok(())
}
