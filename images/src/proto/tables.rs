// Made by `cargo xtask codegen` from images/proto. Do not edit.

use super::messages;
use crate::error::Fault;
use crate::schema::{Entry, Enum, Field, Label::*, Message, Show, Type};
use crate::schema::typed::{Fields, UNKNOWN, Value};
use crate::wire::WireType;

static ENUM_TTYTYPE: Enum = Enum::new(&[
    (0, "UNKNOWN"),
    (1, "PTY"),
    (2, "CONSOLE"),
    (3, "VT"),
    (4, "CTTY"),
    (5, "EXT_TTY"),
    (6, "SERIAL"),
]);

static PIPE_DATA_ENTRY: Message = Message::new("pipe_data_entry", &[
    Field::new(1, "pipe_id", Required, Type::Uint32),
    Field::new(2, "bytes", Required, Type::Uint32),
    Field::new(3, "size", Optional, Type::Uint32),
]);
impl Entry for messages::PipeDataEntry {
    fn schema() -> &'static Message { &PIPE_DATA_ENTRY }
}
impl Fields for messages::PipeDataEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.pipe_id = value.uint32()?; Ok(0) }
            2 => { self.bytes = value.uint32()?; Ok(1) }
            3 => { self.size = Some(value.uint32()?); Ok(2) }
            _ => Ok(UNKNOWN),
        }
    }
}

static SK_PACKET_ENTRY: Message = Message::new("sk_packet_entry", &[
    Field::new(1, "id_for", Required, Type::Uint32),
    Field::new(2, "length", Required, Type::Uint32),
    Field::new(4, "scm", Repeated, Type::Message(&SCM_ENTRY)),
    Field::new(128, "ucred", Optional, Type::Message(&SK_UCRED_ENTRY)),
]);
impl Entry for messages::SkPacketEntry {
    fn schema() -> &'static Message { &SK_PACKET_ENTRY }
}
impl Fields for messages::SkPacketEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.id_for = value.uint32()?; Ok(0) }
            2 => { self.length = value.uint32()?; Ok(1) }
            4 => { value.push(&mut self.scm)?; Ok(2) }
            128 => { value.message(self.ucred.get_or_insert_default())?; Ok(3) }
            _ => Ok(UNKNOWN),
        }
    }
}

static SCM_ENTRY: Message = Message::new("scm_entry", &[
    Field::new(1, "type", Required, Type::Uint32),
    Field::new(2, "rights", Repeated, Type::Uint32),
]);
impl Entry for messages::ScmEntry {
    fn schema() -> &'static Message { &SCM_ENTRY }
}
impl Fields for messages::ScmEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.r#type = value.uint32()?; Ok(0) }
            2 => { value.repeat(&mut self.rights, WireType::Varint, Value::uint32)?; Ok(1) }
            _ => Ok(UNKNOWN),
        }
    }
}

static SK_UCRED_ENTRY: Message = Message::new("sk_ucred_entry", &[
    Field::new(1, "uid", Required, Type::Uint32),
    Field::new(2, "gid", Required, Type::Uint32),
    Field::new(3, "pid", Required, Type::Uint32),
]);
impl Entry for messages::SkUcredEntry {
    fn schema() -> &'static Message { &SK_UCRED_ENTRY }
}
impl Fields for messages::SkUcredEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.uid = value.uint32()?; Ok(0) }
            2 => { self.gid = value.uint32()?; Ok(1) }
            3 => { self.pid = value.uint32()?; Ok(2) }
            _ => Ok(UNKNOWN),
        }
    }
}

static GHOST_FILE_ENTRY: Message = Message::new("ghost_file_entry", &[
    Field::new(1, "uid", Required, Type::Uint32),
    Field::new(2, "gid", Required, Type::Uint32),
    Field::new(3, "mode", Required, Type::Uint32),
    Field::new(4, "dev", Optional, Type::Uint32).shown(Show::Dev),
    Field::new(5, "ino", Optional, Type::Uint64),
    Field::new(6, "rdev", Optional, Type::Uint32).shown(Show::Odev),
    Field::new(7, "atim", Optional, Type::Message(&TIMEVAL)),
    Field::new(8, "mtim", Optional, Type::Message(&TIMEVAL)),
    Field::new(9, "chunks", Optional, Type::Bool),
    Field::new(10, "size", Optional, Type::Uint64),
    Field::new(11, "symlnk_target", Optional, Type::String),
]);
impl Entry for messages::GhostFileEntry {
    fn schema() -> &'static Message { &GHOST_FILE_ENTRY }
}
impl Fields for messages::GhostFileEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.uid = value.uint32()?; Ok(0) }
            2 => { self.gid = value.uint32()?; Ok(1) }
            3 => { self.mode = value.uint32()?; Ok(2) }
            4 => { self.dev = Some(value.uint32()?); Ok(3) }
            5 => { self.ino = Some(value.uint64()?); Ok(4) }
            6 => { self.rdev = Some(value.uint32()?); Ok(5) }
            7 => { value.message(self.atim.get_or_insert_default())?; Ok(6) }
            8 => { value.message(self.mtim.get_or_insert_default())?; Ok(7) }
            9 => { self.chunks = Some(value.bool()?); Ok(8) }
            10 => { self.size = Some(value.uint64()?); Ok(9) }
            11 => { self.symlnk_target = Some(value.bytes()?); Ok(10) }
            _ => Ok(UNKNOWN),
        }
    }
}

static GHOST_CHUNK_ENTRY: Message = Message::new("ghost_chunk_entry", &[
    Field::new(1, "len", Required, Type::Uint64),
    Field::new(2, "off", Required, Type::Uint64),
]);
impl Entry for messages::GhostChunkEntry {
    fn schema() -> &'static Message { &GHOST_CHUNK_ENTRY }
}
impl Fields for messages::GhostChunkEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.len = value.uint64()?; Ok(0) }
            2 => { self.off = value.uint64()?; Ok(1) }
            _ => Ok(UNKNOWN),
        }
    }
}

static TIMEVAL: Message = Message::new("timeval", &[
    Field::new(1, "tv_sec", Required, Type::Uint64),
    Field::new(2, "tv_usec", Required, Type::Uint64),
]);
impl Entry for messages::Timeval {
    fn schema() -> &'static Message { &TIMEVAL }
}
impl Fields for messages::Timeval {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.tv_sec = value.uint64()?; Ok(0) }
            2 => { self.tv_usec = value.uint64()?; Ok(1) }
            _ => Ok(UNKNOWN),
        }
    }
}

static TTY_INFO_ENTRY: Message = Message::new("tty_info_entry", &[
    Field::new(1, "id", Required, Type::Uint32),
    Field::new(2, "type", Required, Type::Enum(&ENUM_TTYTYPE)),
    Field::new(3, "locked", Required, Type::Bool),
    Field::new(4, "exclusive", Required, Type::Bool),
    Field::new(5, "packet_mode", Required, Type::Bool),
    Field::new(6, "sid", Required, Type::Uint32),
    Field::new(7, "pgrp", Required, Type::Uint32),
    Field::new(8, "rdev", Required, Type::Uint32),
    Field::new(9, "termios", Optional, Type::Message(&TERMIOS_ENTRY)),
    Field::new(10, "termios_locked", Optional, Type::Message(&TERMIOS_ENTRY)),
    Field::new(11, "winsize", Optional, Type::Message(&WINSIZE_ENTRY)),
    Field::new(12, "pty", Optional, Type::Message(&TTY_PTY_ENTRY)),
    Field::new(13, "dev", Optional, Type::Uint32),
    Field::new(14, "uid", Optional, Type::Uint32),
    Field::new(15, "gid", Optional, Type::Uint32),
]);
impl Entry for messages::TtyInfoEntry {
    fn schema() -> &'static Message { &TTY_INFO_ENTRY }
}
impl Fields for messages::TtyInfoEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.id = value.uint32()?; Ok(0) }
            2 => { self.r#type = value.int32()?; Ok(1) }
            3 => { self.locked = value.bool()?; Ok(2) }
            4 => { self.exclusive = value.bool()?; Ok(3) }
            5 => { self.packet_mode = value.bool()?; Ok(4) }
            6 => { self.sid = value.uint32()?; Ok(5) }
            7 => { self.pgrp = value.uint32()?; Ok(6) }
            8 => { self.rdev = value.uint32()?; Ok(7) }
            9 => { value.message(self.termios.get_or_insert_default())?; Ok(8) }
            10 => { value.message(self.termios_locked.get_or_insert_default())?; Ok(9) }
            11 => { value.message(self.winsize.get_or_insert_default())?; Ok(10) }
            12 => { value.message(self.pty.get_or_insert_default())?; Ok(11) }
            13 => { self.dev = Some(value.uint32()?); Ok(12) }
            14 => { self.uid = Some(value.uint32()?); Ok(13) }
            15 => { self.gid = Some(value.uint32()?); Ok(14) }
            _ => Ok(UNKNOWN),
        }
    }
}

static TERMIOS_ENTRY: Message = Message::new("termios_entry", &[
    Field::new(1, "c_iflag", Required, Type::Uint32),
    Field::new(2, "c_oflag", Required, Type::Uint32),
    Field::new(3, "c_cflag", Required, Type::Uint32),
    Field::new(4, "c_lflag", Required, Type::Uint32),
    Field::new(5, "c_line", Required, Type::Uint32),
    Field::new(6, "c_ispeed", Required, Type::Uint32),
    Field::new(7, "c_ospeed", Required, Type::Uint32),
    Field::new(8, "c_cc", Repeated, Type::Uint32),
]);
impl Entry for messages::TermiosEntry {
    fn schema() -> &'static Message { &TERMIOS_ENTRY }
}
impl Fields for messages::TermiosEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.c_iflag = value.uint32()?; Ok(0) }
            2 => { self.c_oflag = value.uint32()?; Ok(1) }
            3 => { self.c_cflag = value.uint32()?; Ok(2) }
            4 => { self.c_lflag = value.uint32()?; Ok(3) }
            5 => { self.c_line = value.uint32()?; Ok(4) }
            6 => { self.c_ispeed = value.uint32()?; Ok(5) }
            7 => { self.c_ospeed = value.uint32()?; Ok(6) }
            8 => { value.repeat(&mut self.c_cc, WireType::Varint, Value::uint32)?; Ok(7) }
            _ => Ok(UNKNOWN),
        }
    }
}

static WINSIZE_ENTRY: Message = Message::new("winsize_entry", &[
    Field::new(1, "ws_row", Required, Type::Uint32),
    Field::new(2, "ws_col", Required, Type::Uint32),
    Field::new(3, "ws_xpixel", Required, Type::Uint32),
    Field::new(4, "ws_ypixel", Required, Type::Uint32),
]);
impl Entry for messages::WinsizeEntry {
    fn schema() -> &'static Message { &WINSIZE_ENTRY }
}
impl Fields for messages::WinsizeEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.ws_row = value.uint32()?; Ok(0) }
            2 => { self.ws_col = value.uint32()?; Ok(1) }
            3 => { self.ws_xpixel = value.uint32()?; Ok(2) }
            4 => { self.ws_ypixel = value.uint32()?; Ok(3) }
            _ => Ok(UNKNOWN),
        }
    }
}

static TTY_PTY_ENTRY: Message = Message::new("tty_pty_entry", &[
    Field::new(1, "index", Required, Type::Uint32),
]);
impl Entry for messages::TtyPtyEntry {
    fn schema() -> &'static Message { &TTY_PTY_ENTRY }
}
impl Fields for messages::TtyPtyEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.index = value.uint32()?; Ok(0) }
            _ => Ok(UNKNOWN),
        }
    }
}

static TTY_DATA_ENTRY: Message = Message::new("tty_data_entry", &[
    Field::new(1, "tty_id", Required, Type::Uint32),
    Field::new(2, "data", Required, Type::Bytes),
]);
impl Entry for messages::TtyDataEntry {
    fn schema() -> &'static Message { &TTY_DATA_ENTRY }
}
impl Fields for messages::TtyDataEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.tty_id = value.uint32()?; Ok(0) }
            2 => { self.data = value.bytes()?; Ok(1) }
            _ => Ok(UNKNOWN),
        }
    }
}

static BPFMAP_DATA_ENTRY: Message = Message::new("bpfmap_data_entry", &[
    Field::new(1, "map_id", Required, Type::Uint32),
    Field::new(2, "keys_bytes", Required, Type::Uint32),
    Field::new(3, "values_bytes", Required, Type::Uint32),
    Field::new(4, "count", Required, Type::Uint32),
]);
impl Entry for messages::BpfmapDataEntry {
    fn schema() -> &'static Message { &BPFMAP_DATA_ENTRY }
}
impl Fields for messages::BpfmapDataEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.map_id = value.uint32()?; Ok(0) }
            2 => { self.keys_bytes = value.uint32()?; Ok(1) }
            3 => { self.values_bytes = value.uint32()?; Ok(2) }
            4 => { self.count = value.uint32()?; Ok(3) }
            _ => Ok(UNKNOWN),
        }
    }
}

static FILE_LOCK_ENTRY: Message = Message::new("file_lock_entry", &[
    Field::new(1, "flag", Required, Type::Uint32),
    Field::new(2, "type", Required, Type::Uint32),
    Field::new(3, "pid", Required, Type::Int32),
    Field::new(4, "fd", Required, Type::Int32),
    Field::new(5, "start", Required, Type::Int64),
    Field::new(6, "len", Required, Type::Int64),
]);
impl Entry for messages::FileLockEntry {
    fn schema() -> &'static Message { &FILE_LOCK_ENTRY }
}
impl Fields for messages::FileLockEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.flag = value.uint32()?; Ok(0) }
            2 => { self.r#type = value.uint32()?; Ok(1) }
            3 => { self.pid = value.int32()?; Ok(2) }
            4 => { self.fd = value.int32()?; Ok(3) }
            5 => { self.start = value.int64()?; Ok(4) }
            6 => { self.len = value.int64()?; Ok(5) }
            _ => Ok(UNKNOWN),
        }
    }
}

static THREAD_INFO_ARM: Message = Message::new("thread_info_arm", &[
    Field::new(1, "clear_tid_addr", Required, Type::Uint64).shown(Show::Hex),
    Field::new(2, "tls", Required, Type::Uint32),
    Field::new(3, "gpregs", Required, Type::Message(&USER_ARM_REGS_ENTRY)).shown(Show::Hex),
    Field::new(4, "fpstate", Required, Type::Message(&USER_ARM_VFPSTATE_ENTRY)),
]);
impl Entry for messages::ThreadInfoArm {
    fn schema() -> &'static Message { &THREAD_INFO_ARM }
}
impl Fields for messages::ThreadInfoArm {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.clear_tid_addr = value.uint64()?; Ok(0) }
            2 => { self.tls = value.uint32()?; Ok(1) }
            3 => { value.message(&mut self.gpregs)?; Ok(2) }
            4 => { value.message(&mut self.fpstate)?; Ok(3) }
            _ => Ok(UNKNOWN),
        }
    }
}

static USER_ARM_REGS_ENTRY: Message = Message::new("user_arm_regs_entry", &[
    Field::new(1, "r0", Required, Type::Uint32),
    Field::new(2, "r1", Required, Type::Uint32),
    Field::new(3, "r2", Required, Type::Uint32),
    Field::new(4, "r3", Required, Type::Uint32),
    Field::new(5, "r4", Required, Type::Uint32),
    Field::new(6, "r5", Required, Type::Uint32),
    Field::new(7, "r6", Required, Type::Uint32),
    Field::new(8, "r7", Required, Type::Uint32),
    Field::new(9, "r8", Required, Type::Uint32),
    Field::new(10, "r9", Required, Type::Uint32),
    Field::new(11, "r10", Required, Type::Uint32),
    Field::new(12, "fp", Required, Type::Uint32),
    Field::new(13, "ip", Required, Type::Uint32),
    Field::new(14, "sp", Required, Type::Uint32),
    Field::new(15, "lr", Required, Type::Uint32),
    Field::new(16, "pc", Required, Type::Uint32),
    Field::new(17, "cpsr", Required, Type::Uint32),
    Field::new(18, "orig_r0", Required, Type::Uint32),
]);
impl Entry for messages::UserArmRegsEntry {
    fn schema() -> &'static Message { &USER_ARM_REGS_ENTRY }
}
impl Fields for messages::UserArmRegsEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.r0 = value.uint32()?; Ok(0) }
            2 => { self.r1 = value.uint32()?; Ok(1) }
            3 => { self.r2 = value.uint32()?; Ok(2) }
            4 => { self.r3 = value.uint32()?; Ok(3) }
            5 => { self.r4 = value.uint32()?; Ok(4) }
            6 => { self.r5 = value.uint32()?; Ok(5) }
            7 => { self.r6 = value.uint32()?; Ok(6) }
            8 => { self.r7 = value.uint32()?; Ok(7) }
            9 => { self.r8 = value.uint32()?; Ok(8) }
            10 => { self.r9 = value.uint32()?; Ok(9) }
            11 => { self.r10 = value.uint32()?; Ok(10) }
            12 => { self.fp = value.uint32()?; Ok(11) }
            13 => { self.ip = value.uint32()?; Ok(12) }
            14 => { self.sp = value.uint32()?; Ok(13) }
            15 => { self.lr = value.uint32()?; Ok(14) }
            16 => { self.pc = value.uint32()?; Ok(15) }
            17 => { self.cpsr = value.uint32()?; Ok(16) }
            18 => { self.orig_r0 = value.uint32()?; Ok(17) }
            _ => Ok(UNKNOWN),
        }
    }
}

static USER_ARM_VFPSTATE_ENTRY: Message = Message::new("user_arm_vfpstate_entry", &[
    Field::new(1, "vfp_regs", Repeated, Type::Uint64),
    Field::new(2, "fpscr", Required, Type::Uint32),
    Field::new(3, "fpexc", Required, Type::Uint32),
    Field::new(4, "fpinst", Required, Type::Uint32),
    Field::new(5, "fpinst2", Required, Type::Uint32),
]);
impl Entry for messages::UserArmVfpstateEntry {
    fn schema() -> &'static Message { &USER_ARM_VFPSTATE_ENTRY }
}
impl Fields for messages::UserArmVfpstateEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { value.repeat(&mut self.vfp_regs, WireType::Varint, Value::uint64)?; Ok(0) }
            2 => { self.fpscr = value.uint32()?; Ok(1) }
            3 => { self.fpexc = value.uint32()?; Ok(2) }
            4 => { self.fpinst = value.uint32()?; Ok(3) }
            5 => { self.fpinst2 = value.uint32()?; Ok(4) }
            _ => Ok(UNKNOWN),
        }
    }
}

static THREAD_INFO_AARCH64: Message = Message::new("thread_info_aarch64", &[
    Field::new(1, "clear_tid_addr", Required, Type::Uint64).shown(Show::Hex),
    Field::new(2, "tls", Required, Type::Uint64),
    Field::new(3, "gpregs", Required, Type::Message(&USER_AARCH64_REGS_ENTRY)).shown(Show::Hex),
    Field::new(4, "fpsimd", Required, Type::Message(&USER_AARCH64_FPSIMD_CONTEXT_ENTRY)),
    Field::new(5, "pac_keys", Optional, Type::Message(&PAC_KEYS)),
    Field::new(6, "gcs", Optional, Type::Message(&USER_AARCH64_GCS_ENTRY)),
]);
impl Entry for messages::ThreadInfoAarch64 {
    fn schema() -> &'static Message { &THREAD_INFO_AARCH64 }
}
impl Fields for messages::ThreadInfoAarch64 {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.clear_tid_addr = value.uint64()?; Ok(0) }
            2 => { self.tls = value.uint64()?; Ok(1) }
            3 => { value.message(&mut self.gpregs)?; Ok(2) }
            4 => { value.message(&mut self.fpsimd)?; Ok(3) }
            5 => { value.message(self.pac_keys.get_or_insert_default())?; Ok(4) }
            6 => { value.message(self.gcs.get_or_insert_default())?; Ok(5) }
            _ => Ok(UNKNOWN),
        }
    }
}

static USER_AARCH64_REGS_ENTRY: Message = Message::new("user_aarch64_regs_entry", &[
    Field::new(1, "regs", Repeated, Type::Uint64),
    Field::new(2, "sp", Required, Type::Uint64),
    Field::new(3, "pc", Required, Type::Uint64),
    Field::new(4, "pstate", Required, Type::Uint64),
]);
impl Entry for messages::UserAarch64RegsEntry {
    fn schema() -> &'static Message { &USER_AARCH64_REGS_ENTRY }
}
impl Fields for messages::UserAarch64RegsEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { value.repeat(&mut self.regs, WireType::Varint, Value::uint64)?; Ok(0) }
            2 => { self.sp = value.uint64()?; Ok(1) }
            3 => { self.pc = value.uint64()?; Ok(2) }
            4 => { self.pstate = value.uint64()?; Ok(3) }
            _ => Ok(UNKNOWN),
        }
    }
}

static USER_AARCH64_FPSIMD_CONTEXT_ENTRY: Message = Message::new("user_aarch64_fpsimd_context_entry", &[
    Field::new(1, "vregs", Repeated, Type::Uint64),
    Field::new(2, "fpsr", Required, Type::Uint32),
    Field::new(3, "fpcr", Required, Type::Uint32),
]);
impl Entry for messages::UserAarch64FpsimdContextEntry {
    fn schema() -> &'static Message { &USER_AARCH64_FPSIMD_CONTEXT_ENTRY }
}
impl Fields for messages::UserAarch64FpsimdContextEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { value.repeat(&mut self.vregs, WireType::Varint, Value::uint64)?; Ok(0) }
            2 => { self.fpsr = value.uint32()?; Ok(1) }
            3 => { self.fpcr = value.uint32()?; Ok(2) }
            _ => Ok(UNKNOWN),
        }
    }
}

static PAC_KEYS: Message = Message::new("pac_keys", &[
    Field::new(6, "pac_address_keys", Optional, Type::Message(&PAC_ADDRESS_KEYS)),
    Field::new(7, "pac_generic_keys", Optional, Type::Message(&PAC_GENERIC_KEYS)),
]);
impl Entry for messages::PacKeys {
    fn schema() -> &'static Message { &PAC_KEYS }
}
impl Fields for messages::PacKeys {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            6 => { value.message(self.pac_address_keys.get_or_insert_default())?; Ok(0) }
            7 => { value.message(self.pac_generic_keys.get_or_insert_default())?; Ok(1) }
            _ => Ok(UNKNOWN),
        }
    }
}

static PAC_ADDRESS_KEYS: Message = Message::new("pac_address_keys", &[
    Field::new(1, "apiakey_lo", Required, Type::Uint64),
    Field::new(2, "apiakey_hi", Required, Type::Uint64),
    Field::new(3, "apibkey_lo", Required, Type::Uint64),
    Field::new(4, "apibkey_hi", Required, Type::Uint64),
    Field::new(5, "apdakey_lo", Required, Type::Uint64),
    Field::new(6, "apdakey_hi", Required, Type::Uint64),
    Field::new(7, "apdbkey_lo", Required, Type::Uint64),
    Field::new(8, "apdbkey_hi", Required, Type::Uint64),
    Field::new(9, "pac_enabled_key", Required, Type::Uint64),
]);
impl Entry for messages::PacAddressKeys {
    fn schema() -> &'static Message { &PAC_ADDRESS_KEYS }
}
impl Fields for messages::PacAddressKeys {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.apiakey_lo = value.uint64()?; Ok(0) }
            2 => { self.apiakey_hi = value.uint64()?; Ok(1) }
            3 => { self.apibkey_lo = value.uint64()?; Ok(2) }
            4 => { self.apibkey_hi = value.uint64()?; Ok(3) }
            5 => { self.apdakey_lo = value.uint64()?; Ok(4) }
            6 => { self.apdakey_hi = value.uint64()?; Ok(5) }
            7 => { self.apdbkey_lo = value.uint64()?; Ok(6) }
            8 => { self.apdbkey_hi = value.uint64()?; Ok(7) }
            9 => { self.pac_enabled_key = value.uint64()?; Ok(8) }
            _ => Ok(UNKNOWN),
        }
    }
}

static PAC_GENERIC_KEYS: Message = Message::new("pac_generic_keys", &[
    Field::new(1, "apgakey_lo", Required, Type::Uint64),
    Field::new(2, "apgakey_hi", Required, Type::Uint64),
]);
impl Entry for messages::PacGenericKeys {
    fn schema() -> &'static Message { &PAC_GENERIC_KEYS }
}
impl Fields for messages::PacGenericKeys {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.apgakey_lo = value.uint64()?; Ok(0) }
            2 => { self.apgakey_hi = value.uint64()?; Ok(1) }
            _ => Ok(UNKNOWN),
        }
    }
}

static USER_AARCH64_GCS_ENTRY: Message = Message::new("user_aarch64_gcs_entry", &[
    Field::new(1, "gcspr_el0", Required, Type::Uint64).shown(Show::Hex),
    Field::new(2, "features_enabled", Required, Type::Uint64).shown(Show::Hex),
]);
impl Entry for messages::UserAarch64GcsEntry {
    fn schema() -> &'static Message { &USER_AARCH64_GCS_ENTRY }
}
impl Fields for messages::UserAarch64GcsEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.gcspr_el0 = value.uint64()?; Ok(0) }
            2 => { self.features_enabled = value.uint64()?; Ok(1) }
            _ => Ok(UNKNOWN),
        }
    }
}

static THREAD_INFO_PPC64: Message = Message::new("thread_info_ppc64", &[
    Field::new(1, "clear_tid_addr", Required, Type::Uint64).shown(Show::Hex),
    Field::new(2, "gpregs", Required, Type::Message(&USER_PPC64_REGS_ENTRY)).shown(Show::Hex),
    Field::new(3, "fpstate", Optional, Type::Message(&USER_PPC64_FPSTATE_ENTRY)),
    Field::new(4, "vrstate", Optional, Type::Message(&USER_PPC64_VRSTATE_ENTRY)),
    Field::new(5, "vsxstate", Optional, Type::Message(&USER_PPC64_VSXSTATE_ENTRY)),
    Field::new(6, "tmstate", Optional, Type::Message(&USER_PPC64_TM_REGS_ENTRY)),
]);
impl Entry for messages::ThreadInfoPpc64 {
    fn schema() -> &'static Message { &THREAD_INFO_PPC64 }
}
impl Fields for messages::ThreadInfoPpc64 {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.clear_tid_addr = value.uint64()?; Ok(0) }
            2 => { value.message(&mut self.gpregs)?; Ok(1) }
            3 => { value.message(self.fpstate.get_or_insert_default())?; Ok(2) }
            4 => { value.message(self.vrstate.get_or_insert_default())?; Ok(3) }
            5 => { value.message(self.vsxstate.get_or_insert_default())?; Ok(4) }
            6 => { value.message(self.tmstate.get_or_insert_default())?; Ok(5) }
            _ => Ok(UNKNOWN),
        }
    }
}

static USER_PPC64_REGS_ENTRY: Message = Message::new("user_ppc64_regs_entry", &[
    Field::new(1, "gpr", Repeated, Type::Uint64),
    Field::new(2, "nip", Required, Type::Uint64),
    Field::new(3, "msr", Required, Type::Uint64),
    Field::new(4, "orig_gpr3", Required, Type::Uint64),
    Field::new(5, "ctr", Required, Type::Uint64),
    Field::new(6, "link", Required, Type::Uint64),
    Field::new(7, "xer", Required, Type::Uint64),
    Field::new(8, "ccr", Required, Type::Uint64),
    Field::new(9, "trap", Required, Type::Uint64),
    Field::new(10, "texasr", Optional, Type::Uint64),
    Field::new(11, "tfhar", Optional, Type::Uint64),
    Field::new(12, "tfiar", Optional, Type::Uint64),
]);
impl Entry for messages::UserPpc64RegsEntry {
    fn schema() -> &'static Message { &USER_PPC64_REGS_ENTRY }
}
impl Fields for messages::UserPpc64RegsEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { value.repeat(&mut self.gpr, WireType::Varint, Value::uint64)?; Ok(0) }
            2 => { self.nip = value.uint64()?; Ok(1) }
            3 => { self.msr = value.uint64()?; Ok(2) }
            4 => { self.orig_gpr3 = value.uint64()?; Ok(3) }
            5 => { self.ctr = value.uint64()?; Ok(4) }
            6 => { self.link = value.uint64()?; Ok(5) }
            7 => { self.xer = value.uint64()?; Ok(6) }
            8 => { self.ccr = value.uint64()?; Ok(7) }
            9 => { self.trap = value.uint64()?; Ok(8) }
            10 => { self.texasr = Some(value.uint64()?); Ok(9) }
            11 => { self.tfhar = Some(value.uint64()?); Ok(10) }
            12 => { self.tfiar = Some(value.uint64()?); Ok(11) }
            _ => Ok(UNKNOWN),
        }
    }
}

static USER_PPC64_FPSTATE_ENTRY: Message = Message::new("user_ppc64_fpstate_entry", &[
    Field::new(1, "fpregs", Repeated, Type::Uint64),
]);
impl Entry for messages::UserPpc64FpstateEntry {
    fn schema() -> &'static Message { &USER_PPC64_FPSTATE_ENTRY }
}
impl Fields for messages::UserPpc64FpstateEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { value.repeat(&mut self.fpregs, WireType::Varint, Value::uint64)?; Ok(0) }
            _ => Ok(UNKNOWN),
        }
    }
}

static USER_PPC64_VRSTATE_ENTRY: Message = Message::new("user_ppc64_vrstate_entry", &[
    Field::new(1, "vrregs", Repeated, Type::Uint64),
    Field::new(2, "vrsave", Required, Type::Uint32),
]);
impl Entry for messages::UserPpc64VrstateEntry {
    fn schema() -> &'static Message { &USER_PPC64_VRSTATE_ENTRY }
}
impl Fields for messages::UserPpc64VrstateEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { value.repeat(&mut self.vrregs, WireType::Varint, Value::uint64)?; Ok(0) }
            2 => { self.vrsave = value.uint32()?; Ok(1) }
            _ => Ok(UNKNOWN),
        }
    }
}

static USER_PPC64_VSXSTATE_ENTRY: Message = Message::new("user_ppc64_vsxstate_entry", &[
    Field::new(1, "vsxregs", Repeated, Type::Uint64),
]);
impl Entry for messages::UserPpc64VsxstateEntry {
    fn schema() -> &'static Message { &USER_PPC64_VSXSTATE_ENTRY }
}
impl Fields for messages::UserPpc64VsxstateEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { value.repeat(&mut self.vsxregs, WireType::Varint, Value::uint64)?; Ok(0) }
            _ => Ok(UNKNOWN),
        }
    }
}

static USER_PPC64_TM_REGS_ENTRY: Message = Message::new("user_ppc64_tm_regs_entry", &[
    Field::new(1, "gpregs", Required, Type::Message(&USER_PPC64_REGS_ENTRY)),
    Field::new(2, "fpstate", Optional, Type::Message(&USER_PPC64_FPSTATE_ENTRY)),
    Field::new(3, "vrstate", Optional, Type::Message(&USER_PPC64_VRSTATE_ENTRY)),
    Field::new(4, "vsxstate", Optional, Type::Message(&USER_PPC64_VSXSTATE_ENTRY)),
]);
impl Entry for messages::UserPpc64TmRegsEntry {
    fn schema() -> &'static Message { &USER_PPC64_TM_REGS_ENTRY }
}
impl Fields for messages::UserPpc64TmRegsEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { value.message(&mut self.gpregs)?; Ok(0) }
            2 => { value.message(self.fpstate.get_or_insert_default())?; Ok(1) }
            3 => { value.message(self.vrstate.get_or_insert_default())?; Ok(2) }
            4 => { value.message(self.vsxstate.get_or_insert_default())?; Ok(3) }
            _ => Ok(UNKNOWN),
        }
    }
}

static THREAD_INFO_S390: Message = Message::new("thread_info_s390", &[
    Field::new(1, "clear_tid_addr", Required, Type::Uint64).shown(Show::Hex),
    Field::new(2, "gpregs", Required, Type::Message(&USER_S390_REGS_ENTRY)).shown(Show::Hex),
    Field::new(3, "fpregs", Required, Type::Message(&USER_S390_FPREGS_ENTRY)).shown(Show::Hex),
    Field::new(4, "vxrs_low", Optional, Type::Message(&USER_S390_VXRS_LOW_ENTRY)).shown(Show::Hex),
    Field::new(5, "vxrs_high", Optional, Type::Message(&USER_S390_VXRS_HIGH_ENTRY)).shown(Show::Hex),
    Field::new(6, "gs_cb", Optional, Type::Message(&USER_S390_GS_CB_ENTRY)).shown(Show::Hex),
    Field::new(7, "gs_bc", Optional, Type::Message(&USER_S390_GS_CB_ENTRY)).shown(Show::Hex),
    Field::new(8, "ri_cb", Optional, Type::Message(&USER_S390_RI_ENTRY)).shown(Show::Hex),
]);
impl Entry for messages::ThreadInfoS390 {
    fn schema() -> &'static Message { &THREAD_INFO_S390 }
}
impl Fields for messages::ThreadInfoS390 {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.clear_tid_addr = value.uint64()?; Ok(0) }
            2 => { value.message(&mut self.gpregs)?; Ok(1) }
            3 => { value.message(&mut self.fpregs)?; Ok(2) }
            4 => { value.message(self.vxrs_low.get_or_insert_default())?; Ok(3) }
            5 => { value.message(self.vxrs_high.get_or_insert_default())?; Ok(4) }
            6 => { value.message(self.gs_cb.get_or_insert_default())?; Ok(5) }
            7 => { value.message(self.gs_bc.get_or_insert_default())?; Ok(6) }
            8 => { value.message(self.ri_cb.get_or_insert_default())?; Ok(7) }
            _ => Ok(UNKNOWN),
        }
    }
}

static USER_S390_REGS_ENTRY: Message = Message::new("user_s390_regs_entry", &[
    Field::new(1, "psw_mask", Required, Type::Uint64),
    Field::new(2, "psw_addr", Required, Type::Uint64),
    Field::new(3, "gprs", Repeated, Type::Uint64),
    Field::new(4, "acrs", Repeated, Type::Uint32),
    Field::new(5, "orig_gpr2", Required, Type::Uint64),
    Field::new(6, "system_call", Required, Type::Uint32),
]);
impl Entry for messages::UserS390RegsEntry {
    fn schema() -> &'static Message { &USER_S390_REGS_ENTRY }
}
impl Fields for messages::UserS390RegsEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.psw_mask = value.uint64()?; Ok(0) }
            2 => { self.psw_addr = value.uint64()?; Ok(1) }
            3 => { value.repeat(&mut self.gprs, WireType::Varint, Value::uint64)?; Ok(2) }
            4 => { value.repeat(&mut self.acrs, WireType::Varint, Value::uint32)?; Ok(3) }
            5 => { self.orig_gpr2 = value.uint64()?; Ok(4) }
            6 => { self.system_call = value.uint32()?; Ok(5) }
            _ => Ok(UNKNOWN),
        }
    }
}

static USER_S390_FPREGS_ENTRY: Message = Message::new("user_s390_fpregs_entry", &[
    Field::new(1, "fpc", Required, Type::Uint32),
    Field::new(2, "fprs", Repeated, Type::Uint64),
]);
impl Entry for messages::UserS390FpregsEntry {
    fn schema() -> &'static Message { &USER_S390_FPREGS_ENTRY }
}
impl Fields for messages::UserS390FpregsEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.fpc = value.uint32()?; Ok(0) }
            2 => { value.repeat(&mut self.fprs, WireType::Varint, Value::uint64)?; Ok(1) }
            _ => Ok(UNKNOWN),
        }
    }
}

static USER_S390_VXRS_LOW_ENTRY: Message = Message::new("user_s390_vxrs_low_entry", &[
    Field::new(1, "regs", Repeated, Type::Uint64),
]);
impl Entry for messages::UserS390VxrsLowEntry {
    fn schema() -> &'static Message { &USER_S390_VXRS_LOW_ENTRY }
}
impl Fields for messages::UserS390VxrsLowEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { value.repeat(&mut self.regs, WireType::Varint, Value::uint64)?; Ok(0) }
            _ => Ok(UNKNOWN),
        }
    }
}

static USER_S390_VXRS_HIGH_ENTRY: Message = Message::new("user_s390_vxrs_high_entry", &[
    Field::new(1, "regs", Repeated, Type::Uint64),
]);
impl Entry for messages::UserS390VxrsHighEntry {
    fn schema() -> &'static Message { &USER_S390_VXRS_HIGH_ENTRY }
}
impl Fields for messages::UserS390VxrsHighEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { value.repeat(&mut self.regs, WireType::Varint, Value::uint64)?; Ok(0) }
            _ => Ok(UNKNOWN),
        }
    }
}

static USER_S390_GS_CB_ENTRY: Message = Message::new("user_s390_gs_cb_entry", &[
    Field::new(1, "regs", Repeated, Type::Uint64),
]);
impl Entry for messages::UserS390GsCbEntry {
    fn schema() -> &'static Message { &USER_S390_GS_CB_ENTRY }
}
impl Fields for messages::UserS390GsCbEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { value.repeat(&mut self.regs, WireType::Varint, Value::uint64)?; Ok(0) }
            _ => Ok(UNKNOWN),
        }
    }
}

static USER_S390_RI_ENTRY: Message = Message::new("user_s390_ri_entry", &[
    Field::new(1, "ri_on", Required, Type::Uint32),
    Field::new(2, "regs", Repeated, Type::Uint64),
]);
impl Entry for messages::UserS390RiEntry {
    fn schema() -> &'static Message { &USER_S390_RI_ENTRY }
}
impl Fields for messages::UserS390RiEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.ri_on = value.uint32()?; Ok(0) }
            2 => { value.repeat(&mut self.regs, WireType::Varint, Value::uint64)?; Ok(1) }
            _ => Ok(UNKNOWN),
        }
    }
}

static THREAD_INFO_MIPS: Message = Message::new("thread_info_mips", &[
    Field::new(1, "clear_tid_addr", Required, Type::Uint64).shown(Show::Hex),
    Field::new(2, "tls", Required, Type::Uint64),
    Field::new(3, "gpregs", Required, Type::Message(&USER_MIPS_REGS_ENTRY)).shown(Show::Hex),
    Field::new(4, "fpregs", Required, Type::Message(&USER_MIPS_FPREGS_ENTRY)).shown(Show::Hex),
]);
impl Entry for messages::ThreadInfoMips {
    fn schema() -> &'static Message { &THREAD_INFO_MIPS }
}
impl Fields for messages::ThreadInfoMips {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.clear_tid_addr = value.uint64()?; Ok(0) }
            2 => { self.tls = value.uint64()?; Ok(1) }
            3 => { value.message(&mut self.gpregs)?; Ok(2) }
            4 => { value.message(&mut self.fpregs)?; Ok(3) }
            _ => Ok(UNKNOWN),
        }
    }
}

static USER_MIPS_REGS_ENTRY: Message = Message::new("user_mips_regs_entry", &[
    Field::new(1, "r0", Required, Type::Uint64),
    Field::new(2, "r1", Required, Type::Uint64),
    Field::new(3, "r2", Required, Type::Uint64),
    Field::new(4, "r3", Required, Type::Uint64),
    Field::new(5, "r4", Required, Type::Uint64),
    Field::new(6, "r5", Required, Type::Uint64),
    Field::new(7, "r6", Required, Type::Uint64),
    Field::new(8, "r7", Required, Type::Uint64),
    Field::new(9, "r8", Required, Type::Uint64),
    Field::new(10, "r9", Required, Type::Uint64),
    Field::new(11, "r10", Required, Type::Uint64),
    Field::new(12, "r11", Required, Type::Uint64),
    Field::new(13, "r12", Required, Type::Uint64),
    Field::new(14, "r13", Required, Type::Uint64),
    Field::new(15, "r14", Required, Type::Uint64),
    Field::new(16, "r15", Required, Type::Uint64),
    Field::new(17, "r16", Required, Type::Uint64),
    Field::new(18, "r17", Required, Type::Uint64),
    Field::new(19, "r18", Required, Type::Uint64),
    Field::new(20, "r19", Required, Type::Uint64),
    Field::new(21, "r20", Required, Type::Uint64),
    Field::new(22, "r21", Required, Type::Uint64),
    Field::new(23, "r22", Required, Type::Uint64),
    Field::new(24, "r23", Required, Type::Uint64),
    Field::new(25, "r24", Required, Type::Uint64),
    Field::new(26, "r25", Required, Type::Uint64),
    Field::new(27, "r26", Required, Type::Uint64),
    Field::new(28, "r27", Required, Type::Uint64),
    Field::new(29, "r28", Required, Type::Uint64),
    Field::new(30, "r29", Required, Type::Uint64),
    Field::new(31, "r30", Required, Type::Uint64),
    Field::new(32, "r31", Required, Type::Uint64),
    Field::new(33, "lo", Required, Type::Uint64),
    Field::new(34, "hi", Required, Type::Uint64),
    Field::new(35, "cp0_epc", Required, Type::Uint64),
    Field::new(36, "cp0_badvaddr", Required, Type::Uint64),
    Field::new(37, "cp0_status", Required, Type::Uint64),
    Field::new(38, "cp0_cause", Required, Type::Uint64),
]);
impl Entry for messages::UserMipsRegsEntry {
    fn schema() -> &'static Message { &USER_MIPS_REGS_ENTRY }
}
impl Fields for messages::UserMipsRegsEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.r0 = value.uint64()?; Ok(0) }
            2 => { self.r1 = value.uint64()?; Ok(1) }
            3 => { self.r2 = value.uint64()?; Ok(2) }
            4 => { self.r3 = value.uint64()?; Ok(3) }
            5 => { self.r4 = value.uint64()?; Ok(4) }
            6 => { self.r5 = value.uint64()?; Ok(5) }
            7 => { self.r6 = value.uint64()?; Ok(6) }
            8 => { self.r7 = value.uint64()?; Ok(7) }
            9 => { self.r8 = value.uint64()?; Ok(8) }
            10 => { self.r9 = value.uint64()?; Ok(9) }
            11 => { self.r10 = value.uint64()?; Ok(10) }
            12 => { self.r11 = value.uint64()?; Ok(11) }
            13 => { self.r12 = value.uint64()?; Ok(12) }
            14 => { self.r13 = value.uint64()?; Ok(13) }
            15 => { self.r14 = value.uint64()?; Ok(14) }
            16 => { self.r15 = value.uint64()?; Ok(15) }
            17 => { self.r16 = value.uint64()?; Ok(16) }
            18 => { self.r17 = value.uint64()?; Ok(17) }
            19 => { self.r18 = value.uint64()?; Ok(18) }
            20 => { self.r19 = value.uint64()?; Ok(19) }
            21 => { self.r20 = value.uint64()?; Ok(20) }
            22 => { self.r21 = value.uint64()?; Ok(21) }
            23 => { self.r22 = value.uint64()?; Ok(22) }
            24 => { self.r23 = value.uint64()?; Ok(23) }
            25 => { self.r24 = value.uint64()?; Ok(24) }
            26 => { self.r25 = value.uint64()?; Ok(25) }
            27 => { self.r26 = value.uint64()?; Ok(26) }
            28 => { self.r27 = value.uint64()?; Ok(27) }
            29 => { self.r28 = value.uint64()?; Ok(28) }
            30 => { self.r29 = value.uint64()?; Ok(29) }
            31 => { self.r30 = value.uint64()?; Ok(30) }
            32 => { self.r31 = value.uint64()?; Ok(31) }
            33 => { self.lo = value.uint64()?; Ok(32) }
            34 => { self.hi = value.uint64()?; Ok(33) }
            35 => { self.cp0_epc = value.uint64()?; Ok(34) }
            36 => { self.cp0_badvaddr = value.uint64()?; Ok(35) }
            37 => { self.cp0_status = value.uint64()?; Ok(36) }
            38 => { self.cp0_cause = value.uint64()?; Ok(37) }
            _ => Ok(UNKNOWN),
        }
    }
}

static USER_MIPS_FPREGS_ENTRY: Message = Message::new("user_mips_fpregs_entry", &[
    Field::new(1, "r0", Required, Type::Uint64),
    Field::new(2, "r1", Required, Type::Uint64),
    Field::new(3, "r2", Required, Type::Uint64),
    Field::new(4, "r3", Required, Type::Uint64),
    Field::new(5, "r4", Required, Type::Uint64),
    Field::new(6, "r5", Required, Type::Uint64),
    Field::new(7, "r6", Required, Type::Uint64),
    Field::new(8, "r7", Required, Type::Uint64),
    Field::new(9, "r8", Required, Type::Uint64),
    Field::new(10, "r9", Required, Type::Uint64),
    Field::new(11, "r10", Required, Type::Uint64),
    Field::new(12, "r11", Required, Type::Uint64),
    Field::new(13, "r12", Required, Type::Uint64),
    Field::new(14, "r13", Required, Type::Uint64),
    Field::new(15, "r14", Required, Type::Uint64),
    Field::new(16, "r15", Required, Type::Uint64),
    Field::new(17, "r16", Required, Type::Uint64),
    Field::new(18, "r17", Required, Type::Uint64),
    Field::new(19, "r18", Required, Type::Uint64),
    Field::new(20, "r19", Required, Type::Uint64),
    Field::new(21, "r20", Required, Type::Uint64),
    Field::new(22, "r21", Required, Type::Uint64),
    Field::new(23, "r22", Required, Type::Uint64),
    Field::new(24, "r23", Required, Type::Uint64),
    Field::new(25, "r24", Required, Type::Uint64),
    Field::new(26, "r25", Required, Type::Uint64),
    Field::new(27, "r26", Required, Type::Uint64),
    Field::new(28, "r27", Required, Type::Uint64),
    Field::new(29, "r28", Required, Type::Uint64),
    Field::new(30, "r29", Required, Type::Uint64),
    Field::new(31, "r30", Required, Type::Uint64),
    Field::new(32, "r31", Required, Type::Uint64),
    Field::new(33, "lo", Required, Type::Uint64),
    Field::new(34, "hi", Required, Type::Uint64),
    Field::new(35, "fpu_fcr31", Required, Type::Uint32),
    Field::new(36, "fpu_id", Required, Type::Uint32),
]);
impl Entry for messages::UserMipsFpregsEntry {
    fn schema() -> &'static Message { &USER_MIPS_FPREGS_ENTRY }
}
impl Fields for messages::UserMipsFpregsEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.r0 = value.uint64()?; Ok(0) }
            2 => { self.r1 = value.uint64()?; Ok(1) }
            3 => { self.r2 = value.uint64()?; Ok(2) }
            4 => { self.r3 = value.uint64()?; Ok(3) }
            5 => { self.r4 = value.uint64()?; Ok(4) }
            6 => { self.r5 = value.uint64()?; Ok(5) }
            7 => { self.r6 = value.uint64()?; Ok(6) }
            8 => { self.r7 = value.uint64()?; Ok(7) }
            9 => { self.r8 = value.uint64()?; Ok(8) }
            10 => { self.r9 = value.uint64()?; Ok(9) }
            11 => { self.r10 = value.uint64()?; Ok(10) }
            12 => { self.r11 = value.uint64()?; Ok(11) }
            13 => { self.r12 = value.uint64()?; Ok(12) }
            14 => { self.r13 = value.uint64()?; Ok(13) }
            15 => { self.r14 = value.uint64()?; Ok(14) }
            16 => { self.r15 = value.uint64()?; Ok(15) }
            17 => { self.r16 = value.uint64()?; Ok(16) }
            18 => { self.r17 = value.uint64()?; Ok(17) }
            19 => { self.r18 = value.uint64()?; Ok(18) }
            20 => { self.r19 = value.uint64()?; Ok(19) }
            21 => { self.r20 = value.uint64()?; Ok(20) }
            22 => { self.r21 = value.uint64()?; Ok(21) }
            23 => { self.r22 = value.uint64()?; Ok(22) }
            24 => { self.r23 = value.uint64()?; Ok(23) }
            25 => { self.r24 = value.uint64()?; Ok(24) }
            26 => { self.r25 = value.uint64()?; Ok(25) }
            27 => { self.r26 = value.uint64()?; Ok(26) }
            28 => { self.r27 = value.uint64()?; Ok(27) }
            29 => { self.r28 = value.uint64()?; Ok(28) }
            30 => { self.r29 = value.uint64()?; Ok(29) }
            31 => { self.r30 = value.uint64()?; Ok(30) }
            32 => { self.r31 = value.uint64()?; Ok(31) }
            33 => { self.lo = value.uint64()?; Ok(32) }
            34 => { self.hi = value.uint64()?; Ok(33) }
            35 => { self.fpu_fcr31 = value.uint32()?; Ok(34) }
            36 => { self.fpu_id = value.uint32()?; Ok(35) }
            _ => Ok(UNKNOWN),
        }
    }
}

static THREAD_INFO_LOONGARCH64: Message = Message::new("thread_info_loongarch64", &[
    Field::new(1, "clear_tid_addr", Required, Type::Uint64).shown(Show::Hex),
    Field::new(2, "tls", Required, Type::Uint64),
    Field::new(3, "gpregs", Required, Type::Message(&USER_LOONGARCH64_GPREGS_ENTRY)).shown(Show::Hex),
    Field::new(4, "fpregs", Required, Type::Message(&USER_LOONGARCH64_FPREGS_ENTRY)).shown(Show::Hex),
]);
impl Entry for messages::ThreadInfoLoongarch64 {
    fn schema() -> &'static Message { &THREAD_INFO_LOONGARCH64 }
}
impl Fields for messages::ThreadInfoLoongarch64 {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.clear_tid_addr = value.uint64()?; Ok(0) }
            2 => { self.tls = value.uint64()?; Ok(1) }
            3 => { value.message(&mut self.gpregs)?; Ok(2) }
            4 => { value.message(&mut self.fpregs)?; Ok(3) }
            _ => Ok(UNKNOWN),
        }
    }
}

static USER_LOONGARCH64_GPREGS_ENTRY: Message = Message::new("user_loongarch64_gpregs_entry", &[
    Field::new(1, "regs", Repeated, Type::Uint64),
    Field::new(2, "pc", Required, Type::Uint64),
]);
impl Entry for messages::UserLoongarch64GpregsEntry {
    fn schema() -> &'static Message { &USER_LOONGARCH64_GPREGS_ENTRY }
}
impl Fields for messages::UserLoongarch64GpregsEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { value.repeat(&mut self.regs, WireType::Varint, Value::uint64)?; Ok(0) }
            2 => { self.pc = value.uint64()?; Ok(1) }
            _ => Ok(UNKNOWN),
        }
    }
}

static USER_LOONGARCH64_FPREGS_ENTRY: Message = Message::new("user_loongarch64_fpregs_entry", &[
    Field::new(1, "regs", Repeated, Type::Uint64),
    Field::new(2, "fcc", Required, Type::Uint64),
    Field::new(3, "fcsr", Required, Type::Uint32),
]);
impl Entry for messages::UserLoongarch64FpregsEntry {
    fn schema() -> &'static Message { &USER_LOONGARCH64_FPREGS_ENTRY }
}
impl Fields for messages::UserLoongarch64FpregsEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { value.repeat(&mut self.regs, WireType::Varint, Value::uint64)?; Ok(0) }
            2 => { self.fcc = value.uint64()?; Ok(1) }
            3 => { self.fcsr = value.uint32()?; Ok(2) }
            _ => Ok(UNKNOWN),
        }
    }
}

static THREAD_INFO_RISCV64: Message = Message::new("thread_info_riscv64", &[
    Field::new(1, "clear_tid_addr", Required, Type::Uint64).shown(Show::Hex),
    Field::new(2, "tls", Required, Type::Uint64),
    Field::new(3, "gpregs", Required, Type::Message(&USER_RISCV64_REGS_ENTRY)).shown(Show::Hex),
    Field::new(4, "fpsimd", Required, Type::Message(&USER_RISCV64_D_EXT_ENTRY)),
]);
impl Entry for messages::ThreadInfoRiscv64 {
    fn schema() -> &'static Message { &THREAD_INFO_RISCV64 }
}
impl Fields for messages::ThreadInfoRiscv64 {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.clear_tid_addr = value.uint64()?; Ok(0) }
            2 => { self.tls = value.uint64()?; Ok(1) }
            3 => { value.message(&mut self.gpregs)?; Ok(2) }
            4 => { value.message(&mut self.fpsimd)?; Ok(3) }
            _ => Ok(UNKNOWN),
        }
    }
}

static USER_RISCV64_REGS_ENTRY: Message = Message::new("user_riscv64_regs_entry", &[
    Field::new(1, "pc", Required, Type::Uint64),
    Field::new(2, "ra", Required, Type::Uint64),
    Field::new(3, "sp", Required, Type::Uint64),
    Field::new(4, "gp", Required, Type::Uint64),
    Field::new(5, "tp", Required, Type::Uint64),
    Field::new(6, "t0", Required, Type::Uint64),
    Field::new(7, "t1", Required, Type::Uint64),
    Field::new(8, "t2", Required, Type::Uint64),
    Field::new(9, "s0", Required, Type::Uint64),
    Field::new(10, "s1", Required, Type::Uint64),
    Field::new(11, "a0", Required, Type::Uint64),
    Field::new(12, "a1", Required, Type::Uint64),
    Field::new(13, "a2", Required, Type::Uint64),
    Field::new(14, "a3", Required, Type::Uint64),
    Field::new(15, "a4", Required, Type::Uint64),
    Field::new(16, "a5", Required, Type::Uint64),
    Field::new(17, "a6", Required, Type::Uint64),
    Field::new(18, "a7", Required, Type::Uint64),
    Field::new(19, "s2", Required, Type::Uint64),
    Field::new(20, "s3", Required, Type::Uint64),
    Field::new(21, "s4", Required, Type::Uint64),
    Field::new(22, "s5", Required, Type::Uint64),
    Field::new(23, "s6", Required, Type::Uint64),
    Field::new(24, "s7", Required, Type::Uint64),
    Field::new(25, "s8", Required, Type::Uint64),
    Field::new(26, "s9", Required, Type::Uint64),
    Field::new(27, "s10", Required, Type::Uint64),
    Field::new(28, "s11", Required, Type::Uint64),
    Field::new(29, "t3", Required, Type::Uint64),
    Field::new(30, "t4", Required, Type::Uint64),
    Field::new(31, "t5", Required, Type::Uint64),
    Field::new(32, "t6", Required, Type::Uint64),
]);
impl Entry for messages::UserRiscv64RegsEntry {
    fn schema() -> &'static Message { &USER_RISCV64_REGS_ENTRY }
}
impl Fields for messages::UserRiscv64RegsEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.pc = value.uint64()?; Ok(0) }
            2 => { self.ra = value.uint64()?; Ok(1) }
            3 => { self.sp = value.uint64()?; Ok(2) }
            4 => { self.gp = value.uint64()?; Ok(3) }
            5 => { self.tp = value.uint64()?; Ok(4) }
            6 => { self.t0 = value.uint64()?; Ok(5) }
            7 => { self.t1 = value.uint64()?; Ok(6) }
            8 => { self.t2 = value.uint64()?; Ok(7) }
            9 => { self.s0 = value.uint64()?; Ok(8) }
            10 => { self.s1 = value.uint64()?; Ok(9) }
            11 => { self.a0 = value.uint64()?; Ok(10) }
            12 => { self.a1 = value.uint64()?; Ok(11) }
            13 => { self.a2 = value.uint64()?; Ok(12) }
            14 => { self.a3 = value.uint64()?; Ok(13) }
            15 => { self.a4 = value.uint64()?; Ok(14) }
            16 => { self.a5 = value.uint64()?; Ok(15) }
            17 => { self.a6 = value.uint64()?; Ok(16) }
            18 => { self.a7 = value.uint64()?; Ok(17) }
            19 => { self.s2 = value.uint64()?; Ok(18) }
            20 => { self.s3 = value.uint64()?; Ok(19) }
            21 => { self.s4 = value.uint64()?; Ok(20) }
            22 => { self.s5 = value.uint64()?; Ok(21) }
            23 => { self.s6 = value.uint64()?; Ok(22) }
            24 => { self.s7 = value.uint64()?; Ok(23) }
            25 => { self.s8 = value.uint64()?; Ok(24) }
            26 => { self.s9 = value.uint64()?; Ok(25) }
            27 => { self.s10 = value.uint64()?; Ok(26) }
            28 => { self.s11 = value.uint64()?; Ok(27) }
            29 => { self.t3 = value.uint64()?; Ok(28) }
            30 => { self.t4 = value.uint64()?; Ok(29) }
            31 => { self.t5 = value.uint64()?; Ok(30) }
            32 => { self.t6 = value.uint64()?; Ok(31) }
            _ => Ok(UNKNOWN),
        }
    }
}

static USER_RISCV64_D_EXT_ENTRY: Message = Message::new("user_riscv64_d_ext_entry", &[
    Field::new(1, "f", Repeated, Type::Uint64),
    Field::new(2, "fcsr", Required, Type::Uint32),
]);
impl Entry for messages::UserRiscv64DExtEntry {
    fn schema() -> &'static Message { &USER_RISCV64_D_EXT_ENTRY }
}
impl Fields for messages::UserRiscv64DExtEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { value.repeat(&mut self.f, WireType::Varint, Value::uint64)?; Ok(0) }
            2 => { self.fcsr = value.uint32()?; Ok(1) }
            _ => Ok(UNKNOWN),
        }
    }
}

static ENUM_USER_X86_REGS_MODE: Enum = Enum::new(&[
    (1, "NATIVE"),
    (2, "COMPAT"),
]);

static THREAD_INFO_X86: Message = Message::new("thread_info_x86", &[
    Field::new(1, "clear_tid_addr", Required, Type::Uint64).shown(Show::Hex),
    Field::new(2, "gpregs", Required, Type::Message(&USER_X86_REGS_ENTRY)).shown(Show::Hex),
    Field::new(3, "fpregs", Required, Type::Message(&USER_X86_FPREGS_ENTRY)),
    Field::new(4, "tls", Repeated, Type::Message(&USER_DESC_T)),
]);
impl Entry for messages::ThreadInfoX86 {
    fn schema() -> &'static Message { &THREAD_INFO_X86 }
}
impl Fields for messages::ThreadInfoX86 {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.clear_tid_addr = value.uint64()?; Ok(0) }
            2 => { value.message(&mut self.gpregs)?; Ok(1) }
            3 => { value.message(&mut self.fpregs)?; Ok(2) }
            4 => { value.push(&mut self.tls)?; Ok(3) }
            _ => Ok(UNKNOWN),
        }
    }
}

static USER_X86_REGS_ENTRY: Message = Message::new("user_x86_regs_entry", &[
    Field::new(1, "r15", Required, Type::Uint64),
    Field::new(2, "r14", Required, Type::Uint64),
    Field::new(3, "r13", Required, Type::Uint64),
    Field::new(4, "r12", Required, Type::Uint64),
    Field::new(5, "bp", Required, Type::Uint64),
    Field::new(6, "bx", Required, Type::Uint64),
    Field::new(7, "r11", Required, Type::Uint64),
    Field::new(8, "r10", Required, Type::Uint64),
    Field::new(9, "r9", Required, Type::Uint64),
    Field::new(10, "r8", Required, Type::Uint64),
    Field::new(11, "ax", Required, Type::Uint64),
    Field::new(12, "cx", Required, Type::Uint64),
    Field::new(13, "dx", Required, Type::Uint64),
    Field::new(14, "si", Required, Type::Uint64),
    Field::new(15, "di", Required, Type::Uint64),
    Field::new(16, "orig_ax", Required, Type::Uint64),
    Field::new(17, "ip", Required, Type::Uint64),
    Field::new(18, "cs", Required, Type::Uint64),
    Field::new(19, "flags", Required, Type::Uint64),
    Field::new(20, "sp", Required, Type::Uint64),
    Field::new(21, "ss", Required, Type::Uint64),
    Field::new(22, "fs_base", Required, Type::Uint64),
    Field::new(23, "gs_base", Required, Type::Uint64),
    Field::new(24, "ds", Required, Type::Uint64),
    Field::new(25, "es", Required, Type::Uint64),
    Field::new(26, "fs", Required, Type::Uint64),
    Field::new(27, "gs", Required, Type::Uint64),
    Field::new(28, "mode", Optional, Type::Enum(&ENUM_USER_X86_REGS_MODE)),
]);
impl Entry for messages::UserX86RegsEntry {
    fn schema() -> &'static Message { &USER_X86_REGS_ENTRY }
}
impl Fields for messages::UserX86RegsEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.r15 = value.uint64()?; Ok(0) }
            2 => { self.r14 = value.uint64()?; Ok(1) }
            3 => { self.r13 = value.uint64()?; Ok(2) }
            4 => { self.r12 = value.uint64()?; Ok(3) }
            5 => { self.bp = value.uint64()?; Ok(4) }
            6 => { self.bx = value.uint64()?; Ok(5) }
            7 => { self.r11 = value.uint64()?; Ok(6) }
            8 => { self.r10 = value.uint64()?; Ok(7) }
            9 => { self.r9 = value.uint64()?; Ok(8) }
            10 => { self.r8 = value.uint64()?; Ok(9) }
            11 => { self.ax = value.uint64()?; Ok(10) }
            12 => { self.cx = value.uint64()?; Ok(11) }
            13 => { self.dx = value.uint64()?; Ok(12) }
            14 => { self.si = value.uint64()?; Ok(13) }
            15 => { self.di = value.uint64()?; Ok(14) }
            16 => { self.orig_ax = value.uint64()?; Ok(15) }
            17 => { self.ip = value.uint64()?; Ok(16) }
            18 => { self.cs = value.uint64()?; Ok(17) }
            19 => { self.flags = value.uint64()?; Ok(18) }
            20 => { self.sp = value.uint64()?; Ok(19) }
            21 => { self.ss = value.uint64()?; Ok(20) }
            22 => { self.fs_base = value.uint64()?; Ok(21) }
            23 => { self.gs_base = value.uint64()?; Ok(22) }
            24 => { self.ds = value.uint64()?; Ok(23) }
            25 => { self.es = value.uint64()?; Ok(24) }
            26 => { self.fs = value.uint64()?; Ok(25) }
            27 => { self.gs = value.uint64()?; Ok(26) }
            28 => { self.mode = Some(value.int32()?); Ok(27) }
            _ => Ok(UNKNOWN),
        }
    }
}

static USER_X86_FPREGS_ENTRY: Message = Message::new("user_x86_fpregs_entry", &[
    Field::new(1, "cwd", Required, Type::Uint32),
    Field::new(2, "swd", Required, Type::Uint32),
    Field::new(3, "twd", Required, Type::Uint32),
    Field::new(4, "fop", Required, Type::Uint32),
    Field::new(5, "rip", Required, Type::Uint64),
    Field::new(6, "rdp", Required, Type::Uint64),
    Field::new(7, "mxcsr", Required, Type::Uint32),
    Field::new(8, "mxcsr_mask", Required, Type::Uint32),
    Field::new(9, "st_space", Repeated, Type::Uint32),
    Field::new(10, "xmm_space", Repeated, Type::Uint32),
    Field::new(11, "padding", Repeated, Type::Uint32),
    Field::new(13, "xsave", Optional, Type::Message(&USER_X86_XSAVE_ENTRY)),
]);
impl Entry for messages::UserX86FpregsEntry {
    fn schema() -> &'static Message { &USER_X86_FPREGS_ENTRY }
}
impl Fields for messages::UserX86FpregsEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.cwd = value.uint32()?; Ok(0) }
            2 => { self.swd = value.uint32()?; Ok(1) }
            3 => { self.twd = value.uint32()?; Ok(2) }
            4 => { self.fop = value.uint32()?; Ok(3) }
            5 => { self.rip = value.uint64()?; Ok(4) }
            6 => { self.rdp = value.uint64()?; Ok(5) }
            7 => { self.mxcsr = value.uint32()?; Ok(6) }
            8 => { self.mxcsr_mask = value.uint32()?; Ok(7) }
            9 => { value.repeat(&mut self.st_space, WireType::Varint, Value::uint32)?; Ok(8) }
            10 => { value.repeat(&mut self.xmm_space, WireType::Varint, Value::uint32)?; Ok(9) }
            11 => { value.repeat(&mut self.padding, WireType::Varint, Value::uint32)?; Ok(10) }
            13 => { value.message(self.xsave.get_or_insert_default())?; Ok(11) }
            _ => Ok(UNKNOWN),
        }
    }
}

static USER_X86_XSAVE_ENTRY: Message = Message::new("user_x86_xsave_entry", &[
    Field::new(1, "xstate_bv", Required, Type::Uint64),
    Field::new(2, "ymmh_space", Repeated, Type::Uint32),
    Field::new(3, "bndreg_state", Repeated, Type::Uint64),
    Field::new(4, "bndcsr_state", Repeated, Type::Uint64),
    Field::new(5, "opmask_reg", Repeated, Type::Uint64),
    Field::new(6, "zmm_upper", Repeated, Type::Uint64),
    Field::new(7, "hi16_zmm", Repeated, Type::Uint64),
    Field::new(8, "pkru", Repeated, Type::Uint32),
    Field::new(9, "cet", Optional, Type::Message(&USER_X86_CET_ENTRY)),
]);
impl Entry for messages::UserX86XsaveEntry {
    fn schema() -> &'static Message { &USER_X86_XSAVE_ENTRY }
}
impl Fields for messages::UserX86XsaveEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.xstate_bv = value.uint64()?; Ok(0) }
            2 => { value.repeat(&mut self.ymmh_space, WireType::Varint, Value::uint32)?; Ok(1) }
            3 => { value.repeat(&mut self.bndreg_state, WireType::Varint, Value::uint64)?; Ok(2) }
            4 => { value.repeat(&mut self.bndcsr_state, WireType::Varint, Value::uint64)?; Ok(3) }
            5 => { value.repeat(&mut self.opmask_reg, WireType::Varint, Value::uint64)?; Ok(4) }
            6 => { value.repeat(&mut self.zmm_upper, WireType::Varint, Value::uint64)?; Ok(5) }
            7 => { value.repeat(&mut self.hi16_zmm, WireType::Varint, Value::uint64)?; Ok(6) }
            8 => { value.repeat(&mut self.pkru, WireType::Varint, Value::uint32)?; Ok(7) }
            9 => { value.message(self.cet.get_or_insert_default())?; Ok(8) }
            _ => Ok(UNKNOWN),
        }
    }
}

static USER_X86_CET_ENTRY: Message = Message::new("user_x86_cet_entry", &[
    Field::new(1, "cet", Required, Type::Uint64).shown(Show::Hex),
    Field::new(2, "ssp", Required, Type::Uint64).shown(Show::Hex),
]);
impl Entry for messages::UserX86CetEntry {
    fn schema() -> &'static Message { &USER_X86_CET_ENTRY }
}
impl Fields for messages::UserX86CetEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.cet = value.uint64()?; Ok(0) }
            2 => { self.ssp = value.uint64()?; Ok(1) }
            _ => Ok(UNKNOWN),
        }
    }
}

static USER_DESC_T: Message = Message::new("user_desc_t", &[
    Field::new(1, "entry_number", Required, Type::Uint32),
    Field::new(2, "base_addr", Required, Type::Uint32),
    Field::new(3, "limit", Required, Type::Uint32),
    Field::new(4, "seg_32bit", Required, Type::Bool),
    Field::new(5, "contents_h", Required, Type::Bool),
    Field::new(6, "contents_l", Required, Type::Bool),
    Field::new(7, "read_exec_only", Required, Type::Bool),
    Field::new(8, "limit_in_pages", Required, Type::Bool),
    Field::new(9, "seg_not_present", Required, Type::Bool),
    Field::new(10, "usable", Required, Type::Bool),
]);
impl Entry for messages::UserDescT {
    fn schema() -> &'static Message { &USER_DESC_T }
}
impl Fields for messages::UserDescT {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.entry_number = value.uint32()?; Ok(0) }
            2 => { self.base_addr = value.uint32()?; Ok(1) }
            3 => { self.limit = value.uint32()?; Ok(2) }
            4 => { self.seg_32bit = value.bool()?; Ok(3) }
            5 => { self.contents_h = value.bool()?; Ok(4) }
            6 => { self.contents_l = value.bool()?; Ok(5) }
            7 => { self.read_exec_only = value.bool()?; Ok(6) }
            8 => { self.limit_in_pages = value.bool()?; Ok(7) }
            9 => { self.seg_not_present = value.bool()?; Ok(8) }
            10 => { self.usable = value.bool()?; Ok(9) }
            _ => Ok(UNKNOWN),
        }
    }
}

static ENUM_LSMTYPE: Enum = Enum::new(&[
    (0, "NO_LSM"),
    (1, "SELINUX"),
    (2, "APPARMOR"),
]);

static INVENTORY_ENTRY: Message = Message::new("inventory_entry", &[
    Field::new(1, "img_version", Required, Type::Uint32),
    Field::new(2, "fdinfo_per_id", Optional, Type::Bool),
    Field::new(3, "root_ids", Optional, Type::Message(&TASK_KOBJ_IDS_ENTRY)),
    Field::new(4, "ns_per_id", Optional, Type::Bool),
    Field::new(5, "root_cg_set", Optional, Type::Uint32),
    Field::new(6, "lsmtype", Optional, Type::Enum(&ENUM_LSMTYPE)),
    Field::new(8, "dump_uptime", Optional, Type::Uint64),
    Field::new(9, "pre_dump_mode", Optional, Type::Uint32),
    Field::new(10, "tcp_close", Optional, Type::Bool),
    Field::new(11, "network_lock_method", Optional, Type::Uint32),
    Field::new(12, "plugins_entry", Optional, Type::Message(&PLUGINS_ENTRY)),
    Field::new(13, "dump_criu_run_id", Optional, Type::String),
    Field::new(14, "allow_uprobes", Optional, Type::Bool),
    Field::new(15, "compress", Optional, Type::Uint32),
    Field::new(16, "compress_block_size", Optional, Type::Uint32),
]);
impl Entry for messages::InventoryEntry {
    fn schema() -> &'static Message { &INVENTORY_ENTRY }
}
impl Fields for messages::InventoryEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.img_version = value.uint32()?; Ok(0) }
            2 => { self.fdinfo_per_id = Some(value.bool()?); Ok(1) }
            3 => { value.message(self.root_ids.get_or_insert_default())?; Ok(2) }
            4 => { self.ns_per_id = Some(value.bool()?); Ok(3) }
            5 => { self.root_cg_set = Some(value.uint32()?); Ok(4) }
            6 => { self.lsmtype = Some(value.int32()?); Ok(5) }
            8 => { self.dump_uptime = Some(value.uint64()?); Ok(6) }
            9 => { self.pre_dump_mode = Some(value.uint32()?); Ok(7) }
            10 => { self.tcp_close = Some(value.bool()?); Ok(8) }
            11 => { self.network_lock_method = Some(value.uint32()?); Ok(9) }
            12 => { value.message(self.plugins_entry.get_or_insert_default())?; Ok(10) }
            13 => { self.dump_criu_run_id = Some(value.bytes()?); Ok(11) }
            14 => { self.allow_uprobes = Some(value.bool()?); Ok(12) }
            15 => { self.compress = Some(value.uint32()?); Ok(13) }
            16 => { self.compress_block_size = Some(value.uint32()?); Ok(14) }
            _ => Ok(UNKNOWN),
        }
    }
}

static PLUGINS_ENTRY: Message = Message::new("plugins_entry", &[
    Field::new(12, "plugins", Repeated, Type::String),
]);
impl Entry for messages::PluginsEntry {
    fn schema() -> &'static Message { &PLUGINS_ENTRY }
}
impl Fields for messages::PluginsEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            12 => { self.plugins.push(value.bytes()?); Ok(0) }
            _ => Ok(UNKNOWN),
        }
    }
}

static PSTREE_ENTRY: Message = Message::new("pstree_entry", &[
    Field::new(1, "pid", Required, Type::Uint32),
    Field::new(2, "ppid", Required, Type::Uint32),
    Field::new(3, "pgid", Required, Type::Uint32),
    Field::new(4, "sid", Required, Type::Uint32),
    Field::new(5, "threads", Repeated, Type::Uint32),
]);
impl Entry for messages::PstreeEntry {
    fn schema() -> &'static Message { &PSTREE_ENTRY }
}
impl Fields for messages::PstreeEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.pid = value.uint32()?; Ok(0) }
            2 => { self.ppid = value.uint32()?; Ok(1) }
            3 => { self.pgid = value.uint32()?; Ok(2) }
            4 => { self.sid = value.uint32()?; Ok(3) }
            5 => { value.repeat(&mut self.threads, WireType::Varint, Value::uint32)?; Ok(4) }
            _ => Ok(UNKNOWN),
        }
    }
}

static TASK_KOBJ_IDS_ENTRY: Message = Message::new("task_kobj_ids_entry", &[
    Field::new(1, "vm_id", Required, Type::Uint32),
    Field::new(2, "files_id", Required, Type::Uint32),
    Field::new(3, "fs_id", Required, Type::Uint32),
    Field::new(4, "sighand_id", Required, Type::Uint32),
    Field::new(5, "pid_ns_id", Optional, Type::Uint32),
    Field::new(6, "net_ns_id", Optional, Type::Uint32),
    Field::new(7, "ipc_ns_id", Optional, Type::Uint32),
    Field::new(8, "uts_ns_id", Optional, Type::Uint32),
    Field::new(9, "mnt_ns_id", Optional, Type::Uint32),
    Field::new(10, "user_ns_id", Optional, Type::Uint32),
    Field::new(11, "cgroup_ns_id", Optional, Type::Uint32),
    Field::new(12, "time_ns_id", Optional, Type::Uint32),
]);
impl Entry for messages::TaskKobjIdsEntry {
    fn schema() -> &'static Message { &TASK_KOBJ_IDS_ENTRY }
}
impl Fields for messages::TaskKobjIdsEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.vm_id = value.uint32()?; Ok(0) }
            2 => { self.files_id = value.uint32()?; Ok(1) }
            3 => { self.fs_id = value.uint32()?; Ok(2) }
            4 => { self.sighand_id = value.uint32()?; Ok(3) }
            5 => { self.pid_ns_id = Some(value.uint32()?); Ok(4) }
            6 => { self.net_ns_id = Some(value.uint32()?); Ok(5) }
            7 => { self.ipc_ns_id = Some(value.uint32()?); Ok(6) }
            8 => { self.uts_ns_id = Some(value.uint32()?); Ok(7) }
            9 => { self.mnt_ns_id = Some(value.uint32()?); Ok(8) }
            10 => { self.user_ns_id = Some(value.uint32()?); Ok(9) }
            11 => { self.cgroup_ns_id = Some(value.uint32()?); Ok(10) }
            12 => { self.time_ns_id = Some(value.uint32()?); Ok(11) }
            _ => Ok(UNKNOWN),
        }
    }
}

static ENUM_SECCOMP_MODE: Enum = Enum::new(&[
    (0, "disabled"),
    (1, "strict"),
    (2, "filter"),
]);

static ENUM_CORE_ENTRY_MARCH: Enum = Enum::new(&[
    (0, "UNKNOWN"),
    (1, "X86_64"),
    (2, "ARM"),
    (3, "AARCH64"),
    (4, "PPC64"),
    (5, "S390"),
    (6, "MIPS"),
    (7, "LOONGARCH64"),
    (8, "RISCV64"),
]);

static CORE_ENTRY: Message = Message::new("core_entry", &[
    Field::new(1, "mtype", Required, Type::Enum(&ENUM_CORE_ENTRY_MARCH)),
    Field::new(2, "thread_info", Optional, Type::Message(&THREAD_INFO_X86)),
    Field::new(3, "tc", Optional, Type::Message(&TASK_CORE_ENTRY)),
    Field::new(4, "ids", Optional, Type::Message(&TASK_KOBJ_IDS_ENTRY)),
    Field::new(5, "thread_core", Optional, Type::Message(&THREAD_CORE_ENTRY)),
    Field::new(6, "ti_arm", Optional, Type::Message(&THREAD_INFO_ARM)),
    Field::new(8, "ti_aarch64", Optional, Type::Message(&THREAD_INFO_AARCH64)),
    Field::new(9, "ti_ppc64", Optional, Type::Message(&THREAD_INFO_PPC64)),
    Field::new(10, "ti_s390", Optional, Type::Message(&THREAD_INFO_S390)),
    Field::new(11, "ti_mips", Optional, Type::Message(&THREAD_INFO_MIPS)),
    Field::new(12, "ti_loongarch64", Optional, Type::Message(&THREAD_INFO_LOONGARCH64)),
    Field::new(13, "ti_riscv64", Optional, Type::Message(&THREAD_INFO_RISCV64)),
]);
impl Entry for messages::CoreEntry {
    fn schema() -> &'static Message { &CORE_ENTRY }
}
impl Fields for messages::CoreEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.mtype = value.int32()?; Ok(0) }
            2 => { value.message(self.thread_info.get_or_insert_default())?; Ok(1) }
            3 => { value.message(self.tc.get_or_insert_default())?; Ok(2) }
            4 => { value.message(self.ids.get_or_insert_default())?; Ok(3) }
            5 => { value.message(self.thread_core.get_or_insert_default())?; Ok(4) }
            6 => { value.message(self.ti_arm.get_or_insert_default())?; Ok(5) }
            8 => { value.message(self.ti_aarch64.get_or_insert_default())?; Ok(6) }
            9 => { value.message(self.ti_ppc64.get_or_insert_default())?; Ok(7) }
            10 => { value.message(self.ti_s390.get_or_insert_default())?; Ok(8) }
            11 => { value.message(self.ti_mips.get_or_insert_default())?; Ok(9) }
            12 => { value.message(self.ti_loongarch64.get_or_insert_default())?; Ok(10) }
            13 => { value.message(self.ti_riscv64.get_or_insert_default())?; Ok(11) }
            _ => Ok(UNKNOWN),
        }
    }
}

static TASK_CORE_ENTRY: Message = Message::new("task_core_entry", &[
    Field::new(1, "task_state", Required, Type::Uint32).shown(Show::Dict("gen")),
    Field::new(2, "exit_code", Required, Type::Uint32),
    Field::new(3, "personality", Required, Type::Uint32),
    Field::new(4, "flags", Required, Type::Uint32),
    Field::new(5, "blk_sigset", Required, Type::Uint64).shown(Show::Hex),
    Field::new(6, "comm", Required, Type::String),
    Field::new(7, "timers", Optional, Type::Message(&TASK_TIMERS_ENTRY)),
    Field::new(8, "rlimits", Optional, Type::Message(&TASK_RLIMITS_ENTRY)),
    Field::new(9, "cg_set", Optional, Type::Uint32),
    Field::new(10, "signals_s", Optional, Type::Message(&SIGNAL_QUEUE_ENTRY)),
    Field::new(11, "old_seccomp_mode", Optional, Type::Enum(&ENUM_SECCOMP_MODE)),
    Field::new(12, "old_seccomp_filter", Optional, Type::Uint32),
    Field::new(13, "loginuid", Optional, Type::Uint32),
    Field::new(14, "oom_score_adj", Optional, Type::Int32),
    Field::new(15, "sigactions", Repeated, Type::Message(&SA_ENTRY)),
    Field::new(18, "child_subreaper", Optional, Type::Bool),
    Field::new(20, "blk_sigset_extended", Optional, Type::Uint64).shown(Show::Hex),
    Field::new(21, "stop_signo", Optional, Type::Uint32),
    Field::new(22, "membarrier_registration_mask", Optional, Type::Uint32).shown(Show::Hex),
]);
impl Entry for messages::TaskCoreEntry {
    fn schema() -> &'static Message { &TASK_CORE_ENTRY }
}
impl Fields for messages::TaskCoreEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.task_state = value.uint32()?; Ok(0) }
            2 => { self.exit_code = value.uint32()?; Ok(1) }
            3 => { self.personality = value.uint32()?; Ok(2) }
            4 => { self.flags = value.uint32()?; Ok(3) }
            5 => { self.blk_sigset = value.uint64()?; Ok(4) }
            6 => { self.comm = value.bytes()?; Ok(5) }
            7 => { value.message(self.timers.get_or_insert_default())?; Ok(6) }
            8 => { value.message(self.rlimits.get_or_insert_default())?; Ok(7) }
            9 => { self.cg_set = Some(value.uint32()?); Ok(8) }
            10 => { value.message(self.signals_s.get_or_insert_default())?; Ok(9) }
            11 => { self.old_seccomp_mode = Some(value.int32()?); Ok(10) }
            12 => { self.old_seccomp_filter = Some(value.uint32()?); Ok(11) }
            13 => { self.loginuid = Some(value.uint32()?); Ok(12) }
            14 => { self.oom_score_adj = Some(value.int32()?); Ok(13) }
            15 => { value.push(&mut self.sigactions)?; Ok(14) }
            18 => { self.child_subreaper = Some(value.bool()?); Ok(15) }
            20 => { self.blk_sigset_extended = Some(value.uint64()?); Ok(16) }
            21 => { self.stop_signo = Some(value.uint32()?); Ok(17) }
            22 => { self.membarrier_registration_mask = Some(value.uint32()?); Ok(18) }
            _ => Ok(UNKNOWN),
        }
    }
}

static THREAD_CORE_ENTRY: Message = Message::new("thread_core_entry", &[
    Field::new(1, "futex_rla", Required, Type::Uint64),
    Field::new(2, "futex_rla_len", Required, Type::Uint32),
    Field::new(3, "sched_nice", Optional, Type::Sint32),
    Field::new(4, "sched_policy", Optional, Type::Uint32),
    Field::new(5, "sched_prio", Optional, Type::Uint32),
    Field::new(6, "blk_sigset", Optional, Type::Uint64),
    Field::new(7, "sas", Optional, Type::Message(&THREAD_SAS_ENTRY)),
    Field::new(8, "pdeath_sig", Optional, Type::Uint32),
    Field::new(9, "signals_p", Optional, Type::Message(&SIGNAL_QUEUE_ENTRY)),
    Field::new(10, "creds", Optional, Type::Message(&CREDS_ENTRY)),
    Field::new(11, "seccomp_mode", Optional, Type::Enum(&ENUM_SECCOMP_MODE)),
    Field::new(12, "seccomp_filter", Optional, Type::Uint32),
    Field::new(13, "comm", Optional, Type::String),
    Field::new(14, "blk_sigset_extended", Optional, Type::Uint64),
    Field::new(15, "rseq_entry", Optional, Type::Message(&RSEQ_ENTRY)),
    Field::new(16, "cg_set", Optional, Type::Uint32),
    Field::new(17, "timerslack_ns", Optional, Type::Uint64),
]);
impl Entry for messages::ThreadCoreEntry {
    fn schema() -> &'static Message { &THREAD_CORE_ENTRY }
}
impl Fields for messages::ThreadCoreEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.futex_rla = value.uint64()?; Ok(0) }
            2 => { self.futex_rla_len = value.uint32()?; Ok(1) }
            3 => { self.sched_nice = Some(value.sint32()?); Ok(2) }
            4 => { self.sched_policy = Some(value.uint32()?); Ok(3) }
            5 => { self.sched_prio = Some(value.uint32()?); Ok(4) }
            6 => { self.blk_sigset = Some(value.uint64()?); Ok(5) }
            7 => { value.message(self.sas.get_or_insert_default())?; Ok(6) }
            8 => { self.pdeath_sig = Some(value.uint32()?); Ok(7) }
            9 => { value.message(self.signals_p.get_or_insert_default())?; Ok(8) }
            10 => { value.message(self.creds.get_or_insert_default())?; Ok(9) }
            11 => { self.seccomp_mode = Some(value.int32()?); Ok(10) }
            12 => { self.seccomp_filter = Some(value.uint32()?); Ok(11) }
            13 => { self.comm = Some(value.bytes()?); Ok(12) }
            14 => { self.blk_sigset_extended = Some(value.uint64()?); Ok(13) }
            15 => { value.message(self.rseq_entry.get_or_insert_default())?; Ok(14) }
            16 => { self.cg_set = Some(value.uint32()?); Ok(15) }
            17 => { self.timerslack_ns = Some(value.uint64()?); Ok(16) }
            _ => Ok(UNKNOWN),
        }
    }
}

static TASK_RLIMITS_ENTRY: Message = Message::new("task_rlimits_entry", &[
    Field::new(1, "rlimits", Repeated, Type::Message(&RLIMIT_ENTRY)),
]);
impl Entry for messages::TaskRlimitsEntry {
    fn schema() -> &'static Message { &TASK_RLIMITS_ENTRY }
}
impl Fields for messages::TaskRlimitsEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { value.push(&mut self.rlimits)?; Ok(0) }
            _ => Ok(UNKNOWN),
        }
    }
}

static RLIMIT_ENTRY: Message = Message::new("rlimit_entry", &[
    Field::new(1, "cur", Required, Type::Uint64),
    Field::new(2, "max", Required, Type::Uint64),
]);
impl Entry for messages::RlimitEntry {
    fn schema() -> &'static Message { &RLIMIT_ENTRY }
}
impl Fields for messages::RlimitEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.cur = value.uint64()?; Ok(0) }
            2 => { self.max = value.uint64()?; Ok(1) }
            _ => Ok(UNKNOWN),
        }
    }
}

static THREAD_SAS_ENTRY: Message = Message::new("thread_sas_entry", &[
    Field::new(1, "ss_sp", Required, Type::Uint64),
    Field::new(2, "ss_size", Required, Type::Uint64),
    Field::new(3, "ss_flags", Required, Type::Uint32),
]);
impl Entry for messages::ThreadSasEntry {
    fn schema() -> &'static Message { &THREAD_SAS_ENTRY }
}
impl Fields for messages::ThreadSasEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.ss_sp = value.uint64()?; Ok(0) }
            2 => { self.ss_size = value.uint64()?; Ok(1) }
            3 => { self.ss_flags = value.uint32()?; Ok(2) }
            _ => Ok(UNKNOWN),
        }
    }
}

static RSEQ_ENTRY: Message = Message::new("rseq_entry", &[
    Field::new(1, "rseq_abi_pointer", Required, Type::Uint64),
    Field::new(2, "rseq_abi_size", Required, Type::Uint32),
    Field::new(3, "signature", Required, Type::Uint32),
    Field::new(4, "rseq_cs_pointer", Optional, Type::Uint64),
]);
impl Entry for messages::RseqEntry {
    fn schema() -> &'static Message { &RSEQ_ENTRY }
}
impl Fields for messages::RseqEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.rseq_abi_pointer = value.uint64()?; Ok(0) }
            2 => { self.rseq_abi_size = value.uint32()?; Ok(1) }
            3 => { self.signature = value.uint32()?; Ok(2) }
            4 => { self.rseq_cs_pointer = Some(value.uint64()?); Ok(3) }
            _ => Ok(UNKNOWN),
        }
    }
}

static CREDS_ENTRY: Message = Message::new("creds_entry", &[
    Field::new(1, "uid", Required, Type::Uint32),
    Field::new(2, "gid", Required, Type::Uint32),
    Field::new(3, "euid", Required, Type::Uint32),
    Field::new(4, "egid", Required, Type::Uint32),
    Field::new(5, "suid", Required, Type::Uint32),
    Field::new(6, "sgid", Required, Type::Uint32),
    Field::new(7, "fsuid", Required, Type::Uint32),
    Field::new(8, "fsgid", Required, Type::Uint32),
    Field::new(9, "cap_inh", Repeated, Type::Uint32),
    Field::new(10, "cap_prm", Repeated, Type::Uint32),
    Field::new(11, "cap_eff", Repeated, Type::Uint32),
    Field::new(12, "cap_bnd", Repeated, Type::Uint32),
    Field::new(13, "secbits", Required, Type::Uint32),
    Field::new(14, "groups", Repeated, Type::Uint32),
    Field::new(15, "lsm_profile", Optional, Type::String),
    Field::new(16, "lsm_sockcreate", Optional, Type::String),
    Field::new(17, "apparmor_data", Optional, Type::Bytes),
    Field::new(18, "no_new_privs", Optional, Type::Uint32),
    Field::new(19, "cap_amb", Repeated, Type::Uint32),
]);
impl Entry for messages::CredsEntry {
    fn schema() -> &'static Message { &CREDS_ENTRY }
}
impl Fields for messages::CredsEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.uid = value.uint32()?; Ok(0) }
            2 => { self.gid = value.uint32()?; Ok(1) }
            3 => { self.euid = value.uint32()?; Ok(2) }
            4 => { self.egid = value.uint32()?; Ok(3) }
            5 => { self.suid = value.uint32()?; Ok(4) }
            6 => { self.sgid = value.uint32()?; Ok(5) }
            7 => { self.fsuid = value.uint32()?; Ok(6) }
            8 => { self.fsgid = value.uint32()?; Ok(7) }
            9 => { value.repeat(&mut self.cap_inh, WireType::Varint, Value::uint32)?; Ok(8) }
            10 => { value.repeat(&mut self.cap_prm, WireType::Varint, Value::uint32)?; Ok(9) }
            11 => { value.repeat(&mut self.cap_eff, WireType::Varint, Value::uint32)?; Ok(10) }
            12 => { value.repeat(&mut self.cap_bnd, WireType::Varint, Value::uint32)?; Ok(11) }
            13 => { self.secbits = value.uint32()?; Ok(12) }
            14 => { value.repeat(&mut self.groups, WireType::Varint, Value::uint32)?; Ok(13) }
            15 => { self.lsm_profile = Some(value.bytes()?); Ok(14) }
            16 => { self.lsm_sockcreate = Some(value.bytes()?); Ok(15) }
            17 => { self.apparmor_data = Some(value.bytes()?); Ok(16) }
            18 => { self.no_new_privs = Some(value.uint32()?); Ok(17) }
            19 => { value.repeat(&mut self.cap_amb, WireType::Varint, Value::uint32)?; Ok(18) }
            _ => Ok(UNKNOWN),
        }
    }
}

static SA_ENTRY: Message = Message::new("sa_entry", &[
    Field::new(1, "sigaction", Required, Type::Uint64).shown(Show::Hex),
    Field::new(2, "flags", Required, Type::Uint64).shown(Show::Hex),
    Field::new(3, "restorer", Required, Type::Uint64).shown(Show::Hex),
    Field::new(4, "mask", Required, Type::Uint64).shown(Show::Hex),
    Field::new(5, "compat_sigaction", Optional, Type::Bool),
    Field::new(6, "mask_extended", Optional, Type::Uint64).shown(Show::Hex),
]);
impl Entry for messages::SaEntry {
    fn schema() -> &'static Message { &SA_ENTRY }
}
impl Fields for messages::SaEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.sigaction = value.uint64()?; Ok(0) }
            2 => { self.flags = value.uint64()?; Ok(1) }
            3 => { self.restorer = value.uint64()?; Ok(2) }
            4 => { self.mask = value.uint64()?; Ok(3) }
            5 => { self.compat_sigaction = Some(value.bool()?); Ok(4) }
            6 => { self.mask_extended = Some(value.uint64()?); Ok(5) }
            _ => Ok(UNKNOWN),
        }
    }
}

static SIGNAL_QUEUE_ENTRY: Message = Message::new("signal_queue_entry", &[
    Field::new(1, "signals", Repeated, Type::Message(&SIGINFO_ENTRY)),
]);
impl Entry for messages::SignalQueueEntry {
    fn schema() -> &'static Message { &SIGNAL_QUEUE_ENTRY }
}
impl Fields for messages::SignalQueueEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { value.push(&mut self.signals)?; Ok(0) }
            _ => Ok(UNKNOWN),
        }
    }
}

static SIGINFO_ENTRY: Message = Message::new("siginfo_entry", &[
    Field::new(1, "siginfo", Required, Type::Bytes),
]);
impl Entry for messages::SiginfoEntry {
    fn schema() -> &'static Message { &SIGINFO_ENTRY }
}
impl Fields for messages::SiginfoEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.siginfo = value.bytes()?; Ok(0) }
            _ => Ok(UNKNOWN),
        }
    }
}

static TASK_TIMERS_ENTRY: Message = Message::new("task_timers_entry", &[
    Field::new(1, "real", Required, Type::Message(&ITIMER_ENTRY)),
    Field::new(2, "virt", Required, Type::Message(&ITIMER_ENTRY)),
    Field::new(3, "prof", Required, Type::Message(&ITIMER_ENTRY)),
    Field::new(4, "posix", Repeated, Type::Message(&POSIX_TIMER_ENTRY)),
]);
impl Entry for messages::TaskTimersEntry {
    fn schema() -> &'static Message { &TASK_TIMERS_ENTRY }
}
impl Fields for messages::TaskTimersEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { value.message(&mut self.real)?; Ok(0) }
            2 => { value.message(&mut self.virt)?; Ok(1) }
            3 => { value.message(&mut self.prof)?; Ok(2) }
            4 => { value.push(&mut self.posix)?; Ok(3) }
            _ => Ok(UNKNOWN),
        }
    }
}

static ITIMER_ENTRY: Message = Message::new("itimer_entry", &[
    Field::new(1, "isec", Required, Type::Uint64),
    Field::new(2, "iusec", Required, Type::Uint64),
    Field::new(3, "vsec", Required, Type::Uint64),
    Field::new(4, "vusec", Required, Type::Uint64),
]);
impl Entry for messages::ItimerEntry {
    fn schema() -> &'static Message { &ITIMER_ENTRY }
}
impl Fields for messages::ItimerEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.isec = value.uint64()?; Ok(0) }
            2 => { self.iusec = value.uint64()?; Ok(1) }
            3 => { self.vsec = value.uint64()?; Ok(2) }
            4 => { self.vusec = value.uint64()?; Ok(3) }
            _ => Ok(UNKNOWN),
        }
    }
}

static POSIX_TIMER_ENTRY: Message = Message::new("posix_timer_entry", &[
    Field::new(1, "it_id", Required, Type::Uint32),
    Field::new(2, "clock_id", Required, Type::Uint32),
    Field::new(3, "si_signo", Required, Type::Uint32),
    Field::new(4, "it_sigev_notify", Required, Type::Uint32),
    Field::new(5, "sival_ptr", Required, Type::Uint64),
    Field::new(6, "overrun", Required, Type::Uint32),
    Field::new(7, "isec", Required, Type::Uint64),
    Field::new(8, "insec", Required, Type::Uint64),
    Field::new(9, "vsec", Required, Type::Uint64),
    Field::new(10, "vnsec", Required, Type::Uint64),
    Field::new(11, "notify_thread_id", Optional, Type::Int32),
]);
impl Entry for messages::PosixTimerEntry {
    fn schema() -> &'static Message { &POSIX_TIMER_ENTRY }
}
impl Fields for messages::PosixTimerEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.it_id = value.uint32()?; Ok(0) }
            2 => { self.clock_id = value.uint32()?; Ok(1) }
            3 => { self.si_signo = value.uint32()?; Ok(2) }
            4 => { self.it_sigev_notify = value.uint32()?; Ok(3) }
            5 => { self.sival_ptr = value.uint64()?; Ok(4) }
            6 => { self.overrun = value.uint32()?; Ok(5) }
            7 => { self.isec = value.uint64()?; Ok(6) }
            8 => { self.insec = value.uint64()?; Ok(7) }
            9 => { self.vsec = value.uint64()?; Ok(8) }
            10 => { self.vnsec = value.uint64()?; Ok(9) }
            11 => { self.notify_thread_id = Some(value.int32()?); Ok(10) }
            _ => Ok(UNKNOWN),
        }
    }
}

static ENUM_MARK_TYPE: Enum = Enum::new(&[
    (1, "INODE"),
    (2, "MOUNT"),
]);

static FOWN_ENTRY: Message = Message::new("fown_entry", &[
    Field::new(1, "uid", Required, Type::Uint32),
    Field::new(2, "euid", Required, Type::Uint32),
    Field::new(3, "signum", Required, Type::Uint32),
    Field::new(4, "pid_type", Required, Type::Uint32),
    Field::new(5, "pid", Required, Type::Uint32),
]);
impl Entry for messages::FownEntry {
    fn schema() -> &'static Message { &FOWN_ENTRY }
}
impl Fields for messages::FownEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.uid = value.uint32()?; Ok(0) }
            2 => { self.euid = value.uint32()?; Ok(1) }
            3 => { self.signum = value.uint32()?; Ok(2) }
            4 => { self.pid_type = value.uint32()?; Ok(3) }
            5 => { self.pid = value.uint32()?; Ok(4) }
            _ => Ok(UNKNOWN),
        }
    }
}

static EVENTFD_FILE_ENTRY: Message = Message::new("eventfd_file_entry", &[
    Field::new(1, "id", Required, Type::Uint32),
    Field::new(2, "flags", Required, Type::Uint32),
    Field::new(3, "fown", Required, Type::Message(&FOWN_ENTRY)),
    Field::new(4, "counter", Required, Type::Uint64),
]);
impl Entry for messages::EventfdFileEntry {
    fn schema() -> &'static Message { &EVENTFD_FILE_ENTRY }
}
impl Fields for messages::EventfdFileEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.id = value.uint32()?; Ok(0) }
            2 => { self.flags = value.uint32()?; Ok(1) }
            3 => { value.message(&mut self.fown)?; Ok(2) }
            4 => { self.counter = value.uint64()?; Ok(3) }
            _ => Ok(UNKNOWN),
        }
    }
}

static EVENTPOLL_FILE_ENTRY: Message = Message::new("eventpoll_file_entry", &[
    Field::new(1, "id", Required, Type::Uint32),
    Field::new(2, "flags", Required, Type::Uint32),
    Field::new(3, "fown", Required, Type::Message(&FOWN_ENTRY)),
    Field::new(4, "tfd", Repeated, Type::Message(&EVENTPOLL_TFD_ENTRY)),
]);
impl Entry for messages::EventpollFileEntry {
    fn schema() -> &'static Message { &EVENTPOLL_FILE_ENTRY }
}
impl Fields for messages::EventpollFileEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.id = value.uint32()?; Ok(0) }
            2 => { self.flags = value.uint32()?; Ok(1) }
            3 => { value.message(&mut self.fown)?; Ok(2) }
            4 => { value.push(&mut self.tfd)?; Ok(3) }
            _ => Ok(UNKNOWN),
        }
    }
}

static EVENTPOLL_TFD_ENTRY: Message = Message::new("eventpoll_tfd_entry", &[
    Field::new(1, "id", Required, Type::Uint32),
    Field::new(2, "tfd", Required, Type::Uint32),
    Field::new(3, "events", Required, Type::Uint32),
    Field::new(4, "data", Required, Type::Uint64),
    Field::new(5, "dev", Optional, Type::Uint32),
    Field::new(6, "inode", Optional, Type::Uint64),
    Field::new(7, "pos", Optional, Type::Uint64),
]);
impl Entry for messages::EventpollTfdEntry {
    fn schema() -> &'static Message { &EVENTPOLL_TFD_ENTRY }
}
impl Fields for messages::EventpollTfdEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.id = value.uint32()?; Ok(0) }
            2 => { self.tfd = value.uint32()?; Ok(1) }
            3 => { self.events = value.uint32()?; Ok(2) }
            4 => { self.data = value.uint64()?; Ok(3) }
            5 => { self.dev = Some(value.uint32()?); Ok(4) }
            6 => { self.inode = Some(value.uint64()?); Ok(5) }
            7 => { self.pos = Some(value.uint64()?); Ok(6) }
            _ => Ok(UNKNOWN),
        }
    }
}

static SIGNALFD_ENTRY: Message = Message::new("signalfd_entry", &[
    Field::new(1, "id", Required, Type::Uint32),
    Field::new(2, "flags", Required, Type::Uint32).shown(Show::Hex),
    Field::new(3, "fown", Required, Type::Message(&FOWN_ENTRY)),
    Field::new(4, "sigmask", Required, Type::Uint64).shown(Show::Hex),
]);
impl Entry for messages::SignalfdEntry {
    fn schema() -> &'static Message { &SIGNALFD_ENTRY }
}
impl Fields for messages::SignalfdEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.id = value.uint32()?; Ok(0) }
            2 => { self.flags = value.uint32()?; Ok(1) }
            3 => { value.message(&mut self.fown)?; Ok(2) }
            4 => { self.sigmask = value.uint64()?; Ok(3) }
            _ => Ok(UNKNOWN),
        }
    }
}

static TIMERFD_ENTRY: Message = Message::new("timerfd_entry", &[
    Field::new(1, "id", Required, Type::Uint32),
    Field::new(2, "flags", Required, Type::Uint32).shown(Show::Hex),
    Field::new(3, "fown", Required, Type::Message(&FOWN_ENTRY)),
    Field::new(4, "clockid", Required, Type::Uint32),
    Field::new(5, "ticks", Required, Type::Uint64),
    Field::new(6, "settime_flags", Required, Type::Uint32).shown(Show::Hex),
    Field::new(7, "vsec", Required, Type::Uint64),
    Field::new(8, "vnsec", Required, Type::Uint64),
    Field::new(9, "isec", Required, Type::Uint64),
    Field::new(10, "insec", Required, Type::Uint64),
]);
impl Entry for messages::TimerfdEntry {
    fn schema() -> &'static Message { &TIMERFD_ENTRY }
}
impl Fields for messages::TimerfdEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.id = value.uint32()?; Ok(0) }
            2 => { self.flags = value.uint32()?; Ok(1) }
            3 => { value.message(&mut self.fown)?; Ok(2) }
            4 => { self.clockid = value.uint32()?; Ok(3) }
            5 => { self.ticks = value.uint64()?; Ok(4) }
            6 => { self.settime_flags = value.uint32()?; Ok(5) }
            7 => { self.vsec = value.uint64()?; Ok(6) }
            8 => { self.vnsec = value.uint64()?; Ok(7) }
            9 => { self.isec = value.uint64()?; Ok(8) }
            10 => { self.insec = value.uint64()?; Ok(9) }
            _ => Ok(UNKNOWN),
        }
    }
}

static FH_ENTRY: Message = Message::new("fh_entry", &[
    Field::new(1, "bytes", Required, Type::Uint32),
    Field::new(2, "type", Required, Type::Uint32),
    Field::new(3, "handle", Repeated, Type::Uint64),
    Field::new(4, "path", Optional, Type::String),
    Field::new(5, "mnt_id", Optional, Type::Uint32),
]);
impl Entry for messages::FhEntry {
    fn schema() -> &'static Message { &FH_ENTRY }
}
impl Fields for messages::FhEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.bytes = value.uint32()?; Ok(0) }
            2 => { self.r#type = value.uint32()?; Ok(1) }
            3 => { value.repeat(&mut self.handle, WireType::Varint, Value::uint64)?; Ok(2) }
            4 => { self.path = Some(value.bytes()?); Ok(3) }
            5 => { self.mnt_id = Some(value.uint32()?); Ok(4) }
            _ => Ok(UNKNOWN),
        }
    }
}

static INOTIFY_FILE_ENTRY: Message = Message::new("inotify_file_entry", &[
    Field::new(1, "id", Required, Type::Uint32),
    Field::new(2, "flags", Required, Type::Uint32).shown(Show::Hex),
    Field::new(4, "fown", Required, Type::Message(&FOWN_ENTRY)),
    Field::new(5, "wd", Repeated, Type::Message(&INOTIFY_WD_ENTRY)),
]);
impl Entry for messages::InotifyFileEntry {
    fn schema() -> &'static Message { &INOTIFY_FILE_ENTRY }
}
impl Fields for messages::InotifyFileEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.id = value.uint32()?; Ok(0) }
            2 => { self.flags = value.uint32()?; Ok(1) }
            4 => { value.message(&mut self.fown)?; Ok(2) }
            5 => { value.push(&mut self.wd)?; Ok(3) }
            _ => Ok(UNKNOWN),
        }
    }
}

static INOTIFY_WD_ENTRY: Message = Message::new("inotify_wd_entry", &[
    Field::new(1, "id", Required, Type::Uint32),
    Field::new(2, "i_ino", Required, Type::Uint64),
    Field::new(3, "mask", Required, Type::Uint32).shown(Show::Hex),
    Field::new(4, "ignored_mask", Required, Type::Uint32).shown(Show::Hex),
    Field::new(5, "s_dev", Required, Type::Uint32).shown(Show::Dev),
    Field::new(6, "wd", Required, Type::Uint32),
    Field::new(7, "f_handle", Required, Type::Message(&FH_ENTRY)),
]);
impl Entry for messages::InotifyWdEntry {
    fn schema() -> &'static Message { &INOTIFY_WD_ENTRY }
}
impl Fields for messages::InotifyWdEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.id = value.uint32()?; Ok(0) }
            2 => { self.i_ino = value.uint64()?; Ok(1) }
            3 => { self.mask = value.uint32()?; Ok(2) }
            4 => { self.ignored_mask = value.uint32()?; Ok(3) }
            5 => { self.s_dev = value.uint32()?; Ok(4) }
            6 => { self.wd = value.uint32()?; Ok(5) }
            7 => { value.message(&mut self.f_handle)?; Ok(6) }
            _ => Ok(UNKNOWN),
        }
    }
}

static FANOTIFY_FILE_ENTRY: Message = Message::new("fanotify_file_entry", &[
    Field::new(1, "id", Required, Type::Uint32),
    Field::new(2, "flags", Required, Type::Uint32).shown(Show::Hex),
    Field::new(3, "fown", Required, Type::Message(&FOWN_ENTRY)),
    Field::new(4, "faflags", Required, Type::Uint32).shown(Show::Hex),
    Field::new(5, "evflags", Required, Type::Uint32).shown(Show::Hex),
    Field::new(6, "mark", Repeated, Type::Message(&FANOTIFY_MARK_ENTRY)),
]);
impl Entry for messages::FanotifyFileEntry {
    fn schema() -> &'static Message { &FANOTIFY_FILE_ENTRY }
}
impl Fields for messages::FanotifyFileEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.id = value.uint32()?; Ok(0) }
            2 => { self.flags = value.uint32()?; Ok(1) }
            3 => { value.message(&mut self.fown)?; Ok(2) }
            4 => { self.faflags = value.uint32()?; Ok(3) }
            5 => { self.evflags = value.uint32()?; Ok(4) }
            6 => { value.push(&mut self.mark)?; Ok(5) }
            _ => Ok(UNKNOWN),
        }
    }
}

static FANOTIFY_MARK_ENTRY: Message = Message::new("fanotify_mark_entry", &[
    Field::new(1, "id", Required, Type::Uint32),
    Field::new(2, "type", Required, Type::Enum(&ENUM_MARK_TYPE)),
    Field::new(3, "mflags", Required, Type::Uint32).shown(Show::Hex),
    Field::new(4, "mask", Required, Type::Uint32).shown(Show::Hex),
    Field::new(5, "ignored_mask", Required, Type::Uint32).shown(Show::Hex),
    Field::new(6, "s_dev", Required, Type::Uint32).shown(Show::Dev),
    Field::new(7, "ie", Optional, Type::Message(&FANOTIFY_INODE_MARK_ENTRY)),
    Field::new(8, "me", Optional, Type::Message(&FANOTIFY_MOUNT_MARK_ENTRY)),
]);
impl Entry for messages::FanotifyMarkEntry {
    fn schema() -> &'static Message { &FANOTIFY_MARK_ENTRY }
}
impl Fields for messages::FanotifyMarkEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.id = value.uint32()?; Ok(0) }
            2 => { self.r#type = value.int32()?; Ok(1) }
            3 => { self.mflags = value.uint32()?; Ok(2) }
            4 => { self.mask = value.uint32()?; Ok(3) }
            5 => { self.ignored_mask = value.uint32()?; Ok(4) }
            6 => { self.s_dev = value.uint32()?; Ok(5) }
            7 => { value.message(self.ie.get_or_insert_default())?; Ok(6) }
            8 => { value.message(self.me.get_or_insert_default())?; Ok(7) }
            _ => Ok(UNKNOWN),
        }
    }
}

static FANOTIFY_INODE_MARK_ENTRY: Message = Message::new("fanotify_inode_mark_entry", &[
    Field::new(1, "i_ino", Required, Type::Uint64),
    Field::new(2, "f_handle", Required, Type::Message(&FH_ENTRY)),
]);
impl Entry for messages::FanotifyInodeMarkEntry {
    fn schema() -> &'static Message { &FANOTIFY_INODE_MARK_ENTRY }
}
impl Fields for messages::FanotifyInodeMarkEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.i_ino = value.uint64()?; Ok(0) }
            2 => { value.message(&mut self.f_handle)?; Ok(1) }
            _ => Ok(UNKNOWN),
        }
    }
}

static FANOTIFY_MOUNT_MARK_ENTRY: Message = Message::new("fanotify_mount_mark_entry", &[
    Field::new(1, "mnt_id", Required, Type::Uint32),
    Field::new(2, "path", Optional, Type::String),
]);
impl Entry for messages::FanotifyMountMarkEntry {
    fn schema() -> &'static Message { &FANOTIFY_MOUNT_MARK_ENTRY }
}
impl Fields for messages::FanotifyMountMarkEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.mnt_id = value.uint32()?; Ok(0) }
            2 => { self.path = Some(value.bytes()?); Ok(1) }
            _ => Ok(UNKNOWN),
        }
    }
}

static ENUM_SK_SHUTDOWN: Enum = Enum::new(&[
    (0, "NONE"),
    (1, "READ"),
    (2, "WRITE"),
    (3, "BOTH"),
]);

static SK_OPTS_ENTRY: Message = Message::new("sk_opts_entry", &[
    Field::new(1, "so_sndbuf", Required, Type::Uint32),
    Field::new(2, "so_rcvbuf", Required, Type::Uint32),
    Field::new(3, "so_snd_tmo_sec", Required, Type::Uint64),
    Field::new(4, "so_snd_tmo_usec", Required, Type::Uint64),
    Field::new(5, "so_rcv_tmo_sec", Required, Type::Uint64),
    Field::new(6, "so_rcv_tmo_usec", Required, Type::Uint64),
    Field::new(7, "reuseaddr", Optional, Type::Bool),
    Field::new(8, "so_priority", Optional, Type::Uint32),
    Field::new(9, "so_rcvlowat", Optional, Type::Uint32),
    Field::new(10, "so_mark", Optional, Type::Uint32),
    Field::new(11, "so_passcred", Optional, Type::Bool),
    Field::new(12, "so_passsec", Optional, Type::Bool),
    Field::new(13, "so_dontroute", Optional, Type::Bool),
    Field::new(14, "so_no_check", Optional, Type::Bool),
    Field::new(15, "so_bound_dev", Optional, Type::String),
    Field::new(16, "so_filter", Repeated, Type::Fixed64),
    Field::new(17, "so_reuseport", Optional, Type::Bool),
    Field::new(18, "so_broadcast", Optional, Type::Bool),
    Field::new(19, "so_keepalive", Optional, Type::Bool),
    Field::new(20, "tcp_keepcnt", Optional, Type::Uint32),
    Field::new(21, "tcp_keepidle", Optional, Type::Uint32),
    Field::new(22, "tcp_keepintvl", Optional, Type::Uint32),
    Field::new(23, "so_oobinline", Optional, Type::Uint32),
    Field::new(24, "so_linger", Optional, Type::Uint32),
    Field::new(25, "so_buf_lock", Optional, Type::Uint32),
]);
impl Entry for messages::SkOptsEntry {
    fn schema() -> &'static Message { &SK_OPTS_ENTRY }
}
impl Fields for messages::SkOptsEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.so_sndbuf = value.uint32()?; Ok(0) }
            2 => { self.so_rcvbuf = value.uint32()?; Ok(1) }
            3 => { self.so_snd_tmo_sec = value.uint64()?; Ok(2) }
            4 => { self.so_snd_tmo_usec = value.uint64()?; Ok(3) }
            5 => { self.so_rcv_tmo_sec = value.uint64()?; Ok(4) }
            6 => { self.so_rcv_tmo_usec = value.uint64()?; Ok(5) }
            7 => { self.reuseaddr = Some(value.bool()?); Ok(6) }
            8 => { self.so_priority = Some(value.uint32()?); Ok(7) }
            9 => { self.so_rcvlowat = Some(value.uint32()?); Ok(8) }
            10 => { self.so_mark = Some(value.uint32()?); Ok(9) }
            11 => { self.so_passcred = Some(value.bool()?); Ok(10) }
            12 => { self.so_passsec = Some(value.bool()?); Ok(11) }
            13 => { self.so_dontroute = Some(value.bool()?); Ok(12) }
            14 => { self.so_no_check = Some(value.bool()?); Ok(13) }
            15 => { self.so_bound_dev = Some(value.bytes()?); Ok(14) }
            16 => { value.repeat(&mut self.so_filter, WireType::Fixed64, Value::fixed64)?; Ok(15) }
            17 => { self.so_reuseport = Some(value.bool()?); Ok(16) }
            18 => { self.so_broadcast = Some(value.bool()?); Ok(17) }
            19 => { self.so_keepalive = Some(value.bool()?); Ok(18) }
            20 => { self.tcp_keepcnt = Some(value.uint32()?); Ok(19) }
            21 => { self.tcp_keepidle = Some(value.uint32()?); Ok(20) }
            22 => { self.tcp_keepintvl = Some(value.uint32()?); Ok(21) }
            23 => { self.so_oobinline = Some(value.uint32()?); Ok(22) }
            24 => { self.so_linger = Some(value.uint32()?); Ok(23) }
            25 => { self.so_buf_lock = Some(value.uint32()?); Ok(24) }
            _ => Ok(UNKNOWN),
        }
    }
}

static INET_SK_ENTRY: Message = Message::new("inet_sk_entry", &[
    Field::new(1, "id", Required, Type::Uint32),
    Field::new(2, "ino", Required, Type::Uint32),
    Field::new(3, "family", Required, Type::Uint32).shown(Show::Dict("sk")),
    Field::new(4, "type", Required, Type::Uint32).shown(Show::Dict("sk")),
    Field::new(5, "proto", Required, Type::Uint32).shown(Show::Dict("sk")),
    Field::new(6, "state", Required, Type::Uint32).shown(Show::Dict("sk")),
    Field::new(7, "src_port", Required, Type::Uint32),
    Field::new(8, "dst_port", Required, Type::Uint32),
    Field::new(9, "flags", Required, Type::Uint32).shown(Show::Hex),
    Field::new(10, "backlog", Required, Type::Uint32),
    Field::new(11, "src_addr", Repeated, Type::Uint32).shown(Show::Ip),
    Field::new(12, "dst_addr", Repeated, Type::Uint32).shown(Show::Ip),
    Field::new(13, "fown", Required, Type::Message(&FOWN_ENTRY)),
    Field::new(14, "opts", Required, Type::Message(&SK_OPTS_ENTRY)),
    Field::new(15, "v6only", Optional, Type::Bool),
    Field::new(16, "ip_opts", Optional, Type::Message(&IP_OPTS_ENTRY)),
    Field::new(17, "ifname", Optional, Type::String),
    Field::new(18, "ns_id", Optional, Type::Uint32),
    Field::new(19, "shutdown", Optional, Type::Enum(&ENUM_SK_SHUTDOWN)),
    Field::new(20, "tcp_opts", Optional, Type::Message(&TCP_OPTS_ENTRY)),
    Field::new(21, "uid", Optional, Type::Uint32),
]);
impl Entry for messages::InetSkEntry {
    fn schema() -> &'static Message { &INET_SK_ENTRY }
}
impl Fields for messages::InetSkEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.id = value.uint32()?; Ok(0) }
            2 => { self.ino = value.uint32()?; Ok(1) }
            3 => { self.family = value.uint32()?; Ok(2) }
            4 => { self.r#type = value.uint32()?; Ok(3) }
            5 => { self.proto = value.uint32()?; Ok(4) }
            6 => { self.state = value.uint32()?; Ok(5) }
            7 => { self.src_port = value.uint32()?; Ok(6) }
            8 => { self.dst_port = value.uint32()?; Ok(7) }
            9 => { self.flags = value.uint32()?; Ok(8) }
            10 => { self.backlog = value.uint32()?; Ok(9) }
            11 => { value.repeat(&mut self.src_addr, WireType::Varint, Value::uint32)?; Ok(10) }
            12 => { value.repeat(&mut self.dst_addr, WireType::Varint, Value::uint32)?; Ok(11) }
            13 => { value.message(&mut self.fown)?; Ok(12) }
            14 => { value.message(&mut self.opts)?; Ok(13) }
            15 => { self.v6only = Some(value.bool()?); Ok(14) }
            16 => { value.message(self.ip_opts.get_or_insert_default())?; Ok(15) }
            17 => { self.ifname = Some(value.bytes()?); Ok(16) }
            18 => { self.ns_id = Some(value.uint32()?); Ok(17) }
            19 => { self.shutdown = Some(value.int32()?); Ok(18) }
            20 => { value.message(self.tcp_opts.get_or_insert_default())?; Ok(19) }
            21 => { self.uid = Some(value.uint32()?); Ok(20) }
            _ => Ok(UNKNOWN),
        }
    }
}

static IP_OPTS_ENTRY: Message = Message::new("ip_opts_entry", &[
    Field::new(1, "freebind", Optional, Type::Bool),
    Field::new(4, "raw", Optional, Type::Message(&IP_OPTS_RAW_ENTRY)),
    Field::new(5, "pktinfo", Optional, Type::Bool),
    Field::new(6, "tos", Optional, Type::Uint32),
    Field::new(7, "ttl", Optional, Type::Uint32),
]);
impl Entry for messages::IpOptsEntry {
    fn schema() -> &'static Message { &IP_OPTS_ENTRY }
}
impl Fields for messages::IpOptsEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.freebind = Some(value.bool()?); Ok(0) }
            4 => { value.message(self.raw.get_or_insert_default())?; Ok(1) }
            5 => { self.pktinfo = Some(value.bool()?); Ok(2) }
            6 => { self.tos = Some(value.uint32()?); Ok(3) }
            7 => { self.ttl = Some(value.uint32()?); Ok(4) }
            _ => Ok(UNKNOWN),
        }
    }
}

static IP_OPTS_RAW_ENTRY: Message = Message::new("ip_opts_raw_entry", &[
    Field::new(1, "hdrincl", Optional, Type::Bool),
    Field::new(2, "nodefrag", Optional, Type::Bool),
    Field::new(3, "checksum", Optional, Type::Bool),
    Field::new(4, "icmpv_filter", Repeated, Type::Uint32),
]);
impl Entry for messages::IpOptsRawEntry {
    fn schema() -> &'static Message { &IP_OPTS_RAW_ENTRY }
}
impl Fields for messages::IpOptsRawEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.hdrincl = Some(value.bool()?); Ok(0) }
            2 => { self.nodefrag = Some(value.bool()?); Ok(1) }
            3 => { self.checksum = Some(value.bool()?); Ok(2) }
            4 => { value.repeat(&mut self.icmpv_filter, WireType::Varint, Value::uint32)?; Ok(3) }
            _ => Ok(UNKNOWN),
        }
    }
}

static TCP_OPTS_ENTRY: Message = Message::new("tcp_opts_entry", &[
    Field::new(1, "cork", Optional, Type::Bool),
    Field::new(2, "nodelay", Optional, Type::Bool),
    Field::new(3, "keepcnt", Optional, Type::Uint32),
    Field::new(4, "keepidle", Optional, Type::Uint32),
    Field::new(5, "keepintvl", Optional, Type::Uint32),
]);
impl Entry for messages::TcpOptsEntry {
    fn schema() -> &'static Message { &TCP_OPTS_ENTRY }
}
impl Fields for messages::TcpOptsEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.cork = Some(value.bool()?); Ok(0) }
            2 => { self.nodelay = Some(value.bool()?); Ok(1) }
            3 => { self.keepcnt = Some(value.uint32()?); Ok(2) }
            4 => { self.keepidle = Some(value.uint32()?); Ok(3) }
            5 => { self.keepintvl = Some(value.uint32()?); Ok(4) }
            _ => Ok(UNKNOWN),
        }
    }
}

static UNIX_SK_ENTRY: Message = Message::new("unix_sk_entry", &[
    Field::new(1, "id", Required, Type::Uint32),
    Field::new(2, "ino", Required, Type::Uint32),
    Field::new(3, "type", Required, Type::Uint32).shown(Show::Dict("sk")),
    Field::new(4, "state", Required, Type::Uint32).shown(Show::Dict("sk")),
    Field::new(5, "flags", Required, Type::Uint32).shown(Show::Hex),
    Field::new(6, "uflags", Required, Type::Uint32).shown(Show::Hex),
    Field::new(7, "backlog", Required, Type::Uint32),
    Field::new(8, "peer", Required, Type::Uint32),
    Field::new(9, "fown", Required, Type::Message(&FOWN_ENTRY)),
    Field::new(10, "opts", Required, Type::Message(&SK_OPTS_ENTRY)),
    Field::new(11, "name", Required, Type::Bytes).shown(Show::UnixName),
    Field::new(12, "shutdown", Optional, Type::Enum(&ENUM_SK_SHUTDOWN)),
    Field::new(13, "file_perms", Optional, Type::Message(&FILE_PERMS_ENTRY)),
    Field::new(14, "name_dir", Optional, Type::String),
    Field::new(15, "deleted", Optional, Type::Bool),
    Field::new(16, "ns_id", Optional, Type::Uint32),
    Field::new(17, "mnt_id", Optional, Type::Sint32),
]);
impl Entry for messages::UnixSkEntry {
    fn schema() -> &'static Message { &UNIX_SK_ENTRY }
}
impl Fields for messages::UnixSkEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.id = value.uint32()?; Ok(0) }
            2 => { self.ino = value.uint32()?; Ok(1) }
            3 => { self.r#type = value.uint32()?; Ok(2) }
            4 => { self.state = value.uint32()?; Ok(3) }
            5 => { self.flags = value.uint32()?; Ok(4) }
            6 => { self.uflags = value.uint32()?; Ok(5) }
            7 => { self.backlog = value.uint32()?; Ok(6) }
            8 => { self.peer = value.uint32()?; Ok(7) }
            9 => { value.message(&mut self.fown)?; Ok(8) }
            10 => { value.message(&mut self.opts)?; Ok(9) }
            11 => { self.name = value.bytes()?; Ok(10) }
            12 => { self.shutdown = Some(value.int32()?); Ok(11) }
            13 => { value.message(self.file_perms.get_or_insert_default())?; Ok(12) }
            14 => { self.name_dir = Some(value.bytes()?); Ok(13) }
            15 => { self.deleted = Some(value.bool()?); Ok(14) }
            16 => { self.ns_id = Some(value.uint32()?); Ok(15) }
            17 => { self.mnt_id = Some(value.sint32()?); Ok(16) }
            _ => Ok(UNKNOWN),
        }
    }
}

static FILE_PERMS_ENTRY: Message = Message::new("file_perms_entry", &[
    Field::new(1, "mode", Required, Type::Uint32),
    Field::new(2, "uid", Required, Type::Uint32),
    Field::new(3, "gid", Required, Type::Uint32),
]);
impl Entry for messages::FilePermsEntry {
    fn schema() -> &'static Message { &FILE_PERMS_ENTRY }
}
impl Fields for messages::FilePermsEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.mode = value.uint32()?; Ok(0) }
            2 => { self.uid = value.uint32()?; Ok(1) }
            3 => { self.gid = value.uint32()?; Ok(2) }
            _ => Ok(UNKNOWN),
        }
    }
}

static NETLINK_SK_ENTRY: Message = Message::new("netlink_sk_entry", &[
    Field::new(1, "id", Required, Type::Uint32),
    Field::new(2, "ino", Required, Type::Uint32),
    Field::new(3, "protocol", Required, Type::Uint32),
    Field::new(4, "state", Required, Type::Uint32),
    Field::new(6, "flags", Required, Type::Uint32).shown(Show::Hex),
    Field::new(7, "portid", Required, Type::Uint32),
    Field::new(8, "groups", Repeated, Type::Uint32),
    Field::new(9, "dst_portid", Required, Type::Uint32),
    Field::new(10, "dst_group", Required, Type::Uint32),
    Field::new(11, "fown", Required, Type::Message(&FOWN_ENTRY)),
    Field::new(12, "opts", Required, Type::Message(&SK_OPTS_ENTRY)),
    Field::new(13, "ns_id", Optional, Type::Uint32),
]);
impl Entry for messages::NetlinkSkEntry {
    fn schema() -> &'static Message { &NETLINK_SK_ENTRY }
}
impl Fields for messages::NetlinkSkEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.id = value.uint32()?; Ok(0) }
            2 => { self.ino = value.uint32()?; Ok(1) }
            3 => { self.protocol = value.uint32()?; Ok(2) }
            4 => { self.state = value.uint32()?; Ok(3) }
            6 => { self.flags = value.uint32()?; Ok(4) }
            7 => { self.portid = value.uint32()?; Ok(5) }
            8 => { value.repeat(&mut self.groups, WireType::Varint, Value::uint32)?; Ok(6) }
            9 => { self.dst_portid = value.uint32()?; Ok(7) }
            10 => { self.dst_group = value.uint32()?; Ok(8) }
            11 => { value.message(&mut self.fown)?; Ok(9) }
            12 => { value.message(&mut self.opts)?; Ok(10) }
            13 => { self.ns_id = Some(value.uint32()?); Ok(11) }
            _ => Ok(UNKNOWN),
        }
    }
}

static PACKET_SOCK_ENTRY: Message = Message::new("packet_sock_entry", &[
    Field::new(1, "id", Required, Type::Uint32),
    Field::new(2, "type", Required, Type::Uint32),
    Field::new(3, "protocol", Required, Type::Uint32),
    Field::new(4, "flags", Required, Type::Uint32).shown(Show::Hex),
    Field::new(5, "ifindex", Required, Type::Uint32),
    Field::new(6, "fown", Required, Type::Message(&FOWN_ENTRY)),
    Field::new(7, "opts", Required, Type::Message(&SK_OPTS_ENTRY)),
    Field::new(8, "version", Required, Type::Uint32),
    Field::new(9, "reserve", Required, Type::Uint32),
    Field::new(10, "aux_data", Required, Type::Bool),
    Field::new(11, "orig_dev", Required, Type::Bool),
    Field::new(12, "vnet_hdr", Required, Type::Bool),
    Field::new(13, "loss", Required, Type::Bool),
    Field::new(14, "timestamp", Required, Type::Uint32),
    Field::new(15, "copy_thresh", Required, Type::Uint32),
    Field::new(16, "mclist", Repeated, Type::Message(&PACKET_MCLIST)),
    Field::new(17, "fanout", Optional, Type::Uint32),
    Field::new(18, "rx_ring", Optional, Type::Message(&PACKET_RING)),
    Field::new(19, "tx_ring", Optional, Type::Message(&PACKET_RING)),
    Field::new(20, "ns_id", Optional, Type::Uint32),
]);
impl Entry for messages::PacketSockEntry {
    fn schema() -> &'static Message { &PACKET_SOCK_ENTRY }
}
impl Fields for messages::PacketSockEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.id = value.uint32()?; Ok(0) }
            2 => { self.r#type = value.uint32()?; Ok(1) }
            3 => { self.protocol = value.uint32()?; Ok(2) }
            4 => { self.flags = value.uint32()?; Ok(3) }
            5 => { self.ifindex = value.uint32()?; Ok(4) }
            6 => { value.message(&mut self.fown)?; Ok(5) }
            7 => { value.message(&mut self.opts)?; Ok(6) }
            8 => { self.version = value.uint32()?; Ok(7) }
            9 => { self.reserve = value.uint32()?; Ok(8) }
            10 => { self.aux_data = value.bool()?; Ok(9) }
            11 => { self.orig_dev = value.bool()?; Ok(10) }
            12 => { self.vnet_hdr = value.bool()?; Ok(11) }
            13 => { self.loss = value.bool()?; Ok(12) }
            14 => { self.timestamp = value.uint32()?; Ok(13) }
            15 => { self.copy_thresh = value.uint32()?; Ok(14) }
            16 => { value.push(&mut self.mclist)?; Ok(15) }
            17 => { self.fanout = Some(value.uint32()?); Ok(16) }
            18 => { value.message(self.rx_ring.get_or_insert_default())?; Ok(17) }
            19 => { value.message(self.tx_ring.get_or_insert_default())?; Ok(18) }
            20 => { self.ns_id = Some(value.uint32()?); Ok(19) }
            _ => Ok(UNKNOWN),
        }
    }
}

static PACKET_MCLIST: Message = Message::new("packet_mclist", &[
    Field::new(1, "index", Required, Type::Uint32),
    Field::new(2, "type", Required, Type::Uint32),
    Field::new(3, "addr", Required, Type::Bytes),
]);
impl Entry for messages::PacketMclist {
    fn schema() -> &'static Message { &PACKET_MCLIST }
}
impl Fields for messages::PacketMclist {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.index = value.uint32()?; Ok(0) }
            2 => { self.r#type = value.uint32()?; Ok(1) }
            3 => { self.addr = value.bytes()?; Ok(2) }
            _ => Ok(UNKNOWN),
        }
    }
}

static PACKET_RING: Message = Message::new("packet_ring", &[
    Field::new(1, "block_size", Required, Type::Uint32),
    Field::new(2, "block_nr", Required, Type::Uint32),
    Field::new(3, "frame_size", Required, Type::Uint32),
    Field::new(4, "frame_nr", Required, Type::Uint32),
    Field::new(5, "retire_tmo", Required, Type::Uint32),
    Field::new(6, "sizeof_priv", Required, Type::Uint32),
    Field::new(7, "features", Required, Type::Uint32),
]);
impl Entry for messages::PacketRing {
    fn schema() -> &'static Message { &PACKET_RING }
}
impl Fields for messages::PacketRing {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.block_size = value.uint32()?; Ok(0) }
            2 => { self.block_nr = value.uint32()?; Ok(1) }
            3 => { self.frame_size = value.uint32()?; Ok(2) }
            4 => { self.frame_nr = value.uint32()?; Ok(3) }
            5 => { self.retire_tmo = value.uint32()?; Ok(4) }
            6 => { self.sizeof_priv = value.uint32()?; Ok(5) }
            7 => { self.features = value.uint32()?; Ok(6) }
            _ => Ok(UNKNOWN),
        }
    }
}

static ENUM_FD_TYPES: Enum = Enum::new(&[
    (0, "UND"),
    (1, "REG"),
    (2, "PIPE"),
    (3, "FIFO"),
    (4, "INETSK"),
    (5, "UNIXSK"),
    (6, "EVENTFD"),
    (7, "EVENTPOLL"),
    (8, "INOTIFY"),
    (9, "SIGNALFD"),
    (10, "PACKETSK"),
    (11, "TTY"),
    (12, "FANOTIFY"),
    (13, "NETLINKSK"),
    (14, "NS"),
    (15, "TUNF"),
    (16, "EXT"),
    (17, "TIMERFD"),
    (18, "MEMFD"),
    (19, "BPFMAP"),
    (20, "PIDFD"),
    (65534, "CTL_TTY"),
    (65535, "AUTOFS_PIPE"),
]);

static ENUM_REMAP_TYPE: Enum = Enum::new(&[
    (0, "LINKED"),
    (1, "GHOST"),
    (2, "PROCFS"),
]);

static FS_ENTRY: Message = Message::new("fs_entry", &[
    Field::new(1, "cwd_id", Required, Type::Uint32),
    Field::new(2, "root_id", Required, Type::Uint32),
    Field::new(3, "umask", Optional, Type::Uint32),
]);
impl Entry for messages::FsEntry {
    fn schema() -> &'static Message { &FS_ENTRY }
}
impl Fields for messages::FsEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.cwd_id = value.uint32()?; Ok(0) }
            2 => { self.root_id = value.uint32()?; Ok(1) }
            3 => { self.umask = Some(value.uint32()?); Ok(2) }
            _ => Ok(UNKNOWN),
        }
    }
}

static FDINFO_ENTRY: Message = Message::new("fdinfo_entry", &[
    Field::new(1, "id", Required, Type::Uint32),
    Field::new(2, "flags", Required, Type::Uint32),
    Field::new(3, "type", Required, Type::Enum(&ENUM_FD_TYPES)),
    Field::new(4, "fd", Required, Type::Uint32),
    Field::new(5, "xattr_security_selinux", Optional, Type::String),
]);
impl Entry for messages::FdinfoEntry {
    fn schema() -> &'static Message { &FDINFO_ENTRY }
}
impl Fields for messages::FdinfoEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.id = value.uint32()?; Ok(0) }
            2 => { self.flags = value.uint32()?; Ok(1) }
            3 => { self.r#type = value.int32()?; Ok(2) }
            4 => { self.fd = value.uint32()?; Ok(3) }
            5 => { self.xattr_security_selinux = Some(value.bytes()?); Ok(4) }
            _ => Ok(UNKNOWN),
        }
    }
}

static FILE_ENTRY: Message = Message::new("file_entry", &[
    Field::new(1, "type", Required, Type::Enum(&ENUM_FD_TYPES)),
    Field::new(2, "id", Required, Type::Uint32),
    Field::new(3, "reg", Optional, Type::Message(&REG_FILE_ENTRY)),
    Field::new(4, "isk", Optional, Type::Message(&INET_SK_ENTRY)),
    Field::new(5, "nsf", Optional, Type::Message(&NS_FILE_ENTRY)),
    Field::new(6, "psk", Optional, Type::Message(&PACKET_SOCK_ENTRY)),
    Field::new(7, "nlsk", Optional, Type::Message(&NETLINK_SK_ENTRY)),
    Field::new(8, "efd", Optional, Type::Message(&EVENTFD_FILE_ENTRY)),
    Field::new(9, "epfd", Optional, Type::Message(&EVENTPOLL_FILE_ENTRY)),
    Field::new(10, "sgfd", Optional, Type::Message(&SIGNALFD_ENTRY)),
    Field::new(11, "tunf", Optional, Type::Message(&TUNFILE_ENTRY)),
    Field::new(12, "tfd", Optional, Type::Message(&TIMERFD_ENTRY)),
    Field::new(13, "ify", Optional, Type::Message(&INOTIFY_FILE_ENTRY)),
    Field::new(14, "ffy", Optional, Type::Message(&FANOTIFY_FILE_ENTRY)),
    Field::new(15, "ext", Optional, Type::Message(&EXT_FILE_ENTRY)),
    Field::new(16, "usk", Optional, Type::Message(&UNIX_SK_ENTRY)),
    Field::new(17, "fifo", Optional, Type::Message(&FIFO_ENTRY)),
    Field::new(18, "pipe", Optional, Type::Message(&PIPE_ENTRY)),
    Field::new(19, "tty", Optional, Type::Message(&TTY_FILE_ENTRY)),
    Field::new(20, "memfd", Optional, Type::Message(&MEMFD_FILE_ENTRY)),
    Field::new(21, "bpf", Optional, Type::Message(&BPFMAP_FILE_ENTRY)),
    Field::new(22, "pidfd", Optional, Type::Message(&PIDFD_ENTRY)),
]);
impl Entry for messages::FileEntry {
    fn schema() -> &'static Message { &FILE_ENTRY }
}
impl Fields for messages::FileEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.r#type = value.int32()?; Ok(0) }
            2 => { self.id = value.uint32()?; Ok(1) }
            3 => { value.message(self.reg.get_or_insert_default())?; Ok(2) }
            4 => { value.message(self.isk.get_or_insert_default())?; Ok(3) }
            5 => { value.message(self.nsf.get_or_insert_default())?; Ok(4) }
            6 => { value.message(self.psk.get_or_insert_default())?; Ok(5) }
            7 => { value.message(self.nlsk.get_or_insert_default())?; Ok(6) }
            8 => { value.message(self.efd.get_or_insert_default())?; Ok(7) }
            9 => { value.message(self.epfd.get_or_insert_default())?; Ok(8) }
            10 => { value.message(self.sgfd.get_or_insert_default())?; Ok(9) }
            11 => { value.message(self.tunf.get_or_insert_default())?; Ok(10) }
            12 => { value.message(self.tfd.get_or_insert_default())?; Ok(11) }
            13 => { value.message(self.ify.get_or_insert_default())?; Ok(12) }
            14 => { value.message(self.ffy.get_or_insert_default())?; Ok(13) }
            15 => { value.message(self.ext.get_or_insert_default())?; Ok(14) }
            16 => { value.message(self.usk.get_or_insert_default())?; Ok(15) }
            17 => { value.message(self.fifo.get_or_insert_default())?; Ok(16) }
            18 => { value.message(self.pipe.get_or_insert_default())?; Ok(17) }
            19 => { value.message(self.tty.get_or_insert_default())?; Ok(18) }
            20 => { value.message(self.memfd.get_or_insert_default())?; Ok(19) }
            21 => { value.message(self.bpf.get_or_insert_default())?; Ok(20) }
            22 => { value.message(self.pidfd.get_or_insert_default())?; Ok(21) }
            _ => Ok(UNKNOWN),
        }
    }
}

static REG_FILE_ENTRY: Message = Message::new("reg_file_entry", &[
    Field::new(1, "id", Required, Type::Uint32),
    Field::new(2, "flags", Required, Type::Uint32).shown(Show::Flags("rfile.flags")),
    Field::new(3, "pos", Required, Type::Uint64),
    Field::new(5, "fown", Required, Type::Message(&FOWN_ENTRY)),
    Field::new(6, "name", Required, Type::String),
    Field::new(7, "mnt_id", Optional, Type::Sint32),
    Field::new(8, "size", Optional, Type::Uint64),
    Field::new(9, "ext", Optional, Type::Bool),
    Field::new(10, "mode", Optional, Type::Uint32),
    Field::new(11, "build_id", Repeated, Type::Uint32),
    Field::new(12, "checksum", Optional, Type::Uint32),
    Field::new(13, "checksum_config", Optional, Type::Uint32),
    Field::new(14, "checksum_parameter", Optional, Type::Uint32),
]);
impl Entry for messages::RegFileEntry {
    fn schema() -> &'static Message { &REG_FILE_ENTRY }
}
impl Fields for messages::RegFileEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.id = value.uint32()?; Ok(0) }
            2 => { self.flags = value.uint32()?; Ok(1) }
            3 => { self.pos = value.uint64()?; Ok(2) }
            5 => { value.message(&mut self.fown)?; Ok(3) }
            6 => { self.name = value.bytes()?; Ok(4) }
            7 => { self.mnt_id = Some(value.sint32()?); Ok(5) }
            8 => { self.size = Some(value.uint64()?); Ok(6) }
            9 => { self.ext = Some(value.bool()?); Ok(7) }
            10 => { self.mode = Some(value.uint32()?); Ok(8) }
            11 => { value.repeat(&mut self.build_id, WireType::Varint, Value::uint32)?; Ok(9) }
            12 => { self.checksum = Some(value.uint32()?); Ok(10) }
            13 => { self.checksum_config = Some(value.uint32()?); Ok(11) }
            14 => { self.checksum_parameter = Some(value.uint32()?); Ok(12) }
            _ => Ok(UNKNOWN),
        }
    }
}

static REMAP_FILE_PATH_ENTRY: Message = Message::new("remap_file_path_entry", &[
    Field::new(1, "orig_id", Required, Type::Uint32),
    Field::new(2, "remap_id", Required, Type::Uint32),
    Field::new(3, "remap_type", Optional, Type::Enum(&ENUM_REMAP_TYPE)),
]);
impl Entry for messages::RemapFilePathEntry {
    fn schema() -> &'static Message { &REMAP_FILE_PATH_ENTRY }
}
impl Fields for messages::RemapFilePathEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.orig_id = value.uint32()?; Ok(0) }
            2 => { self.remap_id = value.uint32()?; Ok(1) }
            3 => { self.remap_type = Some(value.int32()?); Ok(2) }
            _ => Ok(UNKNOWN),
        }
    }
}

static EXT_FILE_ENTRY: Message = Message::new("ext_file_entry", &[
    Field::new(1, "id", Required, Type::Uint32),
    Field::new(5, "fown", Required, Type::Message(&FOWN_ENTRY)),
]);
impl Entry for messages::ExtFileEntry {
    fn schema() -> &'static Message { &EXT_FILE_ENTRY }
}
impl Fields for messages::ExtFileEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.id = value.uint32()?; Ok(0) }
            5 => { value.message(&mut self.fown)?; Ok(1) }
            _ => Ok(UNKNOWN),
        }
    }
}

static NS_FILE_ENTRY: Message = Message::new("ns_file_entry", &[
    Field::new(1, "id", Required, Type::Uint32),
    Field::new(2, "ns_id", Required, Type::Uint32),
    Field::new(3, "ns_cflag", Required, Type::Uint32),
    Field::new(4, "flags", Required, Type::Uint32),
]);
impl Entry for messages::NsFileEntry {
    fn schema() -> &'static Message { &NS_FILE_ENTRY }
}
impl Fields for messages::NsFileEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.id = value.uint32()?; Ok(0) }
            2 => { self.ns_id = value.uint32()?; Ok(1) }
            3 => { self.ns_cflag = value.uint32()?; Ok(2) }
            4 => { self.flags = value.uint32()?; Ok(3) }
            _ => Ok(UNKNOWN),
        }
    }
}

static PIPE_ENTRY: Message = Message::new("pipe_entry", &[
    Field::new(1, "id", Required, Type::Uint32),
    Field::new(2, "pipe_id", Required, Type::Uint32),
    Field::new(3, "flags", Required, Type::Uint32).shown(Show::Hex),
    Field::new(4, "fown", Required, Type::Message(&FOWN_ENTRY)),
    Field::new(5, "uid", Optional, Type::Uint32),
    Field::new(6, "gid", Optional, Type::Uint32),
]);
impl Entry for messages::PipeEntry {
    fn schema() -> &'static Message { &PIPE_ENTRY }
}
impl Fields for messages::PipeEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.id = value.uint32()?; Ok(0) }
            2 => { self.pipe_id = value.uint32()?; Ok(1) }
            3 => { self.flags = value.uint32()?; Ok(2) }
            4 => { value.message(&mut self.fown)?; Ok(3) }
            5 => { self.uid = Some(value.uint32()?); Ok(4) }
            6 => { self.gid = Some(value.uint32()?); Ok(5) }
            _ => Ok(UNKNOWN),
        }
    }
}

static FIFO_ENTRY: Message = Message::new("fifo_entry", &[
    Field::new(1, "id", Required, Type::Uint32),
    Field::new(2, "pipe_id", Required, Type::Uint32),
    Field::new(3, "regf_id", Optional, Type::Uint32),
    Field::new(4, "wait_writer", Optional, Type::Bool),
]);
impl Entry for messages::FifoEntry {
    fn schema() -> &'static Message { &FIFO_ENTRY }
}
impl Fields for messages::FifoEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.id = value.uint32()?; Ok(0) }
            2 => { self.pipe_id = value.uint32()?; Ok(1) }
            3 => { self.regf_id = Some(value.uint32()?); Ok(2) }
            4 => { self.wait_writer = Some(value.bool()?); Ok(3) }
            _ => Ok(UNKNOWN),
        }
    }
}

static TTY_FILE_ENTRY: Message = Message::new("tty_file_entry", &[
    Field::new(1, "id", Required, Type::Uint32),
    Field::new(2, "tty_info_id", Required, Type::Uint32),
    Field::new(3, "flags", Required, Type::Uint32).shown(Show::Hex),
    Field::new(4, "fown", Required, Type::Message(&FOWN_ENTRY)),
    Field::new(6, "regf_id", Optional, Type::Uint32),
]);
impl Entry for messages::TtyFileEntry {
    fn schema() -> &'static Message { &TTY_FILE_ENTRY }
}
impl Fields for messages::TtyFileEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.id = value.uint32()?; Ok(0) }
            2 => { self.tty_info_id = value.uint32()?; Ok(1) }
            3 => { self.flags = value.uint32()?; Ok(2) }
            4 => { value.message(&mut self.fown)?; Ok(3) }
            6 => { self.regf_id = Some(value.uint32()?); Ok(4) }
            _ => Ok(UNKNOWN),
        }
    }
}

static TUNFILE_ENTRY: Message = Message::new("tunfile_entry", &[
    Field::new(1, "id", Required, Type::Uint32),
    Field::new(2, "netdev", Optional, Type::String),
    Field::new(3, "detached", Optional, Type::Bool),
    Field::new(4, "ns_id", Optional, Type::Uint32),
]);
impl Entry for messages::TunfileEntry {
    fn schema() -> &'static Message { &TUNFILE_ENTRY }
}
impl Fields for messages::TunfileEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.id = value.uint32()?; Ok(0) }
            2 => { self.netdev = Some(value.bytes()?); Ok(1) }
            3 => { self.detached = Some(value.bool()?); Ok(2) }
            4 => { self.ns_id = Some(value.uint32()?); Ok(3) }
            _ => Ok(UNKNOWN),
        }
    }
}

static MEMFD_FILE_ENTRY: Message = Message::new("memfd_file_entry", &[
    Field::new(1, "id", Required, Type::Uint32),
    Field::new(2, "flags", Required, Type::Uint32).shown(Show::Flags("rfile.flags")),
    Field::new(3, "pos", Required, Type::Uint64),
    Field::new(4, "fown", Required, Type::Message(&FOWN_ENTRY)),
    Field::new(5, "inode_id", Required, Type::Uint32),
]);
impl Entry for messages::MemfdFileEntry {
    fn schema() -> &'static Message { &MEMFD_FILE_ENTRY }
}
impl Fields for messages::MemfdFileEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.id = value.uint32()?; Ok(0) }
            2 => { self.flags = value.uint32()?; Ok(1) }
            3 => { self.pos = value.uint64()?; Ok(2) }
            4 => { value.message(&mut self.fown)?; Ok(3) }
            5 => { self.inode_id = value.uint32()?; Ok(4) }
            _ => Ok(UNKNOWN),
        }
    }
}

static MEMFD_INODE_ENTRY: Message = Message::new("memfd_inode_entry", &[
    Field::new(1, "name", Required, Type::String),
    Field::new(2, "uid", Required, Type::Uint32),
    Field::new(3, "gid", Required, Type::Uint32),
    Field::new(4, "size", Required, Type::Uint64),
    Field::new(5, "shmid", Required, Type::Uint32),
    Field::new(6, "seals", Required, Type::Uint32).shown(Show::Flags("seals.flags")),
    Field::new(7, "inode_id", Required, Type::Uint64),
    Field::new(8, "hugetlb_flag", Optional, Type::Uint32),
    Field::new(9, "mode", Optional, Type::Uint32),
]);
impl Entry for messages::MemfdInodeEntry {
    fn schema() -> &'static Message { &MEMFD_INODE_ENTRY }
}
impl Fields for messages::MemfdInodeEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.name = value.bytes()?; Ok(0) }
            2 => { self.uid = value.uint32()?; Ok(1) }
            3 => { self.gid = value.uint32()?; Ok(2) }
            4 => { self.size = value.uint64()?; Ok(3) }
            5 => { self.shmid = value.uint32()?; Ok(4) }
            6 => { self.seals = value.uint32()?; Ok(5) }
            7 => { self.inode_id = value.uint64()?; Ok(6) }
            8 => { self.hugetlb_flag = Some(value.uint32()?); Ok(7) }
            9 => { self.mode = Some(value.uint32()?); Ok(8) }
            _ => Ok(UNKNOWN),
        }
    }
}

static PIDFD_ENTRY: Message = Message::new("pidfd_entry", &[
    Field::new(1, "id", Required, Type::Uint32),
    Field::new(2, "ino", Required, Type::Uint32),
    Field::new(3, "flags", Required, Type::Uint32),
    Field::new(4, "nspid", Required, Type::Int32),
    Field::new(5, "fown", Required, Type::Message(&FOWN_ENTRY)),
]);
impl Entry for messages::PidfdEntry {
    fn schema() -> &'static Message { &PIDFD_ENTRY }
}
impl Fields for messages::PidfdEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.id = value.uint32()?; Ok(0) }
            2 => { self.ino = value.uint32()?; Ok(1) }
            3 => { self.flags = value.uint32()?; Ok(2) }
            4 => { self.nspid = value.int32()?; Ok(3) }
            5 => { value.message(&mut self.fown)?; Ok(4) }
            _ => Ok(UNKNOWN),
        }
    }
}

static BPFMAP_FILE_ENTRY: Message = Message::new("bpfmap_file_entry", &[
    Field::new(1, "id", Required, Type::Uint32),
    Field::new(2, "flags", Required, Type::Uint32).shown(Show::Flags("rfile.flags")),
    Field::new(3, "pos", Required, Type::Uint64),
    Field::new(4, "fown", Required, Type::Message(&FOWN_ENTRY)),
    Field::new(5, "map_type", Required, Type::Uint32),
    Field::new(6, "key_size", Required, Type::Uint32),
    Field::new(7, "value_size", Required, Type::Uint32),
    Field::new(8, "map_id", Required, Type::Uint32),
    Field::new(9, "max_entries", Required, Type::Uint32),
    Field::new(10, "map_flags", Required, Type::Uint32),
    Field::new(11, "memlock", Required, Type::Uint64),
    Field::new(12, "frozen", Required, Type::Bool),
    Field::new(13, "map_name", Required, Type::String),
    Field::new(14, "ifindex", Required, Type::Uint32),
    Field::new(15, "mnt_id", Optional, Type::Sint32),
    Field::new(16, "map_extra", Optional, Type::Uint64),
]);
impl Entry for messages::BpfmapFileEntry {
    fn schema() -> &'static Message { &BPFMAP_FILE_ENTRY }
}
impl Fields for messages::BpfmapFileEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.id = value.uint32()?; Ok(0) }
            2 => { self.flags = value.uint32()?; Ok(1) }
            3 => { self.pos = value.uint64()?; Ok(2) }
            4 => { value.message(&mut self.fown)?; Ok(3) }
            5 => { self.map_type = value.uint32()?; Ok(4) }
            6 => { self.key_size = value.uint32()?; Ok(5) }
            7 => { self.value_size = value.uint32()?; Ok(6) }
            8 => { self.map_id = value.uint32()?; Ok(7) }
            9 => { self.max_entries = value.uint32()?; Ok(8) }
            10 => { self.map_flags = value.uint32()?; Ok(9) }
            11 => { self.memlock = value.uint64()?; Ok(10) }
            12 => { self.frozen = value.bool()?; Ok(11) }
            13 => { self.map_name = value.bytes()?; Ok(12) }
            14 => { self.ifindex = value.uint32()?; Ok(13) }
            15 => { self.mnt_id = Some(value.sint32()?); Ok(14) }
            16 => { self.map_extra = Some(value.uint64()?); Ok(15) }
            _ => Ok(UNKNOWN),
        }
    }
}

static CPUINFO_ENTRY: Message = Message::new("cpuinfo_entry", &[
    Field::new(1, "x86_entry", Repeated, Type::Message(&CPUINFO_X86_ENTRY)),
    Field::new(2, "ppc64_entry", Repeated, Type::Message(&CPUINFO_PPC64_ENTRY)),
    Field::new(3, "s390_entry", Repeated, Type::Message(&CPUINFO_S390_ENTRY)),
]);
impl Entry for messages::CpuinfoEntry {
    fn schema() -> &'static Message { &CPUINFO_ENTRY }
}
impl Fields for messages::CpuinfoEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { value.push(&mut self.x86_entry)?; Ok(0) }
            2 => { value.push(&mut self.ppc64_entry)?; Ok(1) }
            3 => { value.push(&mut self.s390_entry)?; Ok(2) }
            _ => Ok(UNKNOWN),
        }
    }
}

static ENUM_CPUINFO_X86_ENTRY_VENDOR: Enum = Enum::new(&[
    (0, "UNKNOWN"),
    (1, "INTEL"),
    (2, "AMD"),
]);

static CPUINFO_X86_ENTRY: Message = Message::new("cpuinfo_x86_entry", &[
    Field::new(1, "vendor_id", Required, Type::Enum(&ENUM_CPUINFO_X86_ENTRY_VENDOR)),
    Field::new(2, "cpu_family", Required, Type::Uint32),
    Field::new(3, "model", Required, Type::Uint32),
    Field::new(4, "stepping", Required, Type::Uint32),
    Field::new(5, "capability_ver", Required, Type::Uint32),
    Field::new(6, "capability", Repeated, Type::Uint32),
    Field::new(7, "model_id", Optional, Type::String),
    Field::new(8, "xfeatures_mask", Optional, Type::Uint64),
    Field::new(9, "xsave_size", Optional, Type::Uint32),
    Field::new(10, "xsave_size_max", Optional, Type::Uint32),
]);
impl Entry for messages::CpuinfoX86Entry {
    fn schema() -> &'static Message { &CPUINFO_X86_ENTRY }
}
impl Fields for messages::CpuinfoX86Entry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.vendor_id = value.int32()?; Ok(0) }
            2 => { self.cpu_family = value.uint32()?; Ok(1) }
            3 => { self.model = value.uint32()?; Ok(2) }
            4 => { self.stepping = value.uint32()?; Ok(3) }
            5 => { self.capability_ver = value.uint32()?; Ok(4) }
            6 => { value.repeat(&mut self.capability, WireType::Varint, Value::uint32)?; Ok(5) }
            7 => { self.model_id = Some(value.bytes()?); Ok(6) }
            8 => { self.xfeatures_mask = Some(value.uint64()?); Ok(7) }
            9 => { self.xsave_size = Some(value.uint32()?); Ok(8) }
            10 => { self.xsave_size_max = Some(value.uint32()?); Ok(9) }
            _ => Ok(UNKNOWN),
        }
    }
}

static ENUM_CPUINFO_PPC64_ENTRY_ENDIANNESS: Enum = Enum::new(&[
    (0, "BIGENDIAN"),
    (1, "LITTLEENDIAN"),
]);

static CPUINFO_PPC64_ENTRY: Message = Message::new("cpuinfo_ppc64_entry", &[
    Field::new(1, "endian", Required, Type::Enum(&ENUM_CPUINFO_PPC64_ENTRY_ENDIANNESS)),
    Field::new(2, "hwcap", Repeated, Type::Uint64),
]);
impl Entry for messages::CpuinfoPpc64Entry {
    fn schema() -> &'static Message { &CPUINFO_PPC64_ENTRY }
}
impl Fields for messages::CpuinfoPpc64Entry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.endian = value.int32()?; Ok(0) }
            2 => { value.repeat(&mut self.hwcap, WireType::Varint, Value::uint64)?; Ok(1) }
            _ => Ok(UNKNOWN),
        }
    }
}

static CPUINFO_S390_ENTRY: Message = Message::new("cpuinfo_s390_entry", &[
    Field::new(2, "hwcap", Repeated, Type::Uint64),
]);
impl Entry for messages::CpuinfoS390Entry {
    fn schema() -> &'static Message { &CPUINFO_S390_ENTRY }
}
impl Fields for messages::CpuinfoS390Entry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            2 => { value.repeat(&mut self.hwcap, WireType::Varint, Value::uint64)?; Ok(0) }
            _ => Ok(UNKNOWN),
        }
    }
}

static IRMAP_CACHE_ENTRY: Message = Message::new("irmap_cache_entry", &[
    Field::new(1, "dev", Required, Type::Uint32).shown(Show::Odev),
    Field::new(2, "inode", Required, Type::Uint64),
    Field::new(3, "path", Required, Type::String),
]);
impl Entry for messages::IrmapCacheEntry {
    fn schema() -> &'static Message { &IRMAP_CACHE_ENTRY }
}
impl Fields for messages::IrmapCacheEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.dev = value.uint32()?; Ok(0) }
            2 => { self.inode = value.uint64()?; Ok(1) }
            3 => { self.path = value.bytes()?; Ok(2) }
            _ => Ok(UNKNOWN),
        }
    }
}

static IMG_STREAMER_REQUEST_ENTRY: Message = Message::new("img_streamer_request_entry", &[
    Field::new(1, "filename", Required, Type::String),
]);
impl Entry for messages::ImgStreamerRequestEntry {
    fn schema() -> &'static Message { &IMG_STREAMER_REQUEST_ENTRY }
}
impl Fields for messages::ImgStreamerRequestEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.filename = value.bytes()?; Ok(0) }
            _ => Ok(UNKNOWN),
        }
    }
}

static IMG_STREAMER_REPLY_ENTRY: Message = Message::new("img_streamer_reply_entry", &[
    Field::new(1, "exists", Required, Type::Bool),
]);
impl Entry for messages::ImgStreamerReplyEntry {
    fn schema() -> &'static Message { &IMG_STREAMER_REPLY_ENTRY }
}
impl Fields for messages::ImgStreamerReplyEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.exists = value.bool()?; Ok(0) }
            _ => Ok(UNKNOWN),
        }
    }
}

static MM_ENTRY: Message = Message::new("mm_entry", &[
    Field::new(1, "mm_start_code", Required, Type::Uint64).shown(Show::Hex),
    Field::new(2, "mm_end_code", Required, Type::Uint64).shown(Show::Hex),
    Field::new(3, "mm_start_data", Required, Type::Uint64).shown(Show::Hex),
    Field::new(4, "mm_end_data", Required, Type::Uint64).shown(Show::Hex),
    Field::new(5, "mm_start_stack", Required, Type::Uint64).shown(Show::Hex),
    Field::new(6, "mm_start_brk", Required, Type::Uint64).shown(Show::Hex),
    Field::new(7, "mm_brk", Required, Type::Uint64).shown(Show::Hex),
    Field::new(8, "mm_arg_start", Required, Type::Uint64).shown(Show::Hex),
    Field::new(9, "mm_arg_end", Required, Type::Uint64).shown(Show::Hex),
    Field::new(10, "mm_env_start", Required, Type::Uint64).shown(Show::Hex),
    Field::new(11, "mm_env_end", Required, Type::Uint64).shown(Show::Hex),
    Field::new(12, "exe_file_id", Required, Type::Uint32),
    Field::new(13, "mm_saved_auxv", Repeated, Type::Uint64),
    Field::new(14, "vmas", Repeated, Type::Message(&VMA_ENTRY)),
    Field::new(15, "dumpable", Optional, Type::Int32),
    Field::new(16, "aios", Repeated, Type::Message(&AIO_RING_ENTRY)),
    Field::new(17, "thp_disabled", Optional, Type::Bool),
]);
impl Entry for messages::MmEntry {
    fn schema() -> &'static Message { &MM_ENTRY }
}
impl Fields for messages::MmEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.mm_start_code = value.uint64()?; Ok(0) }
            2 => { self.mm_end_code = value.uint64()?; Ok(1) }
            3 => { self.mm_start_data = value.uint64()?; Ok(2) }
            4 => { self.mm_end_data = value.uint64()?; Ok(3) }
            5 => { self.mm_start_stack = value.uint64()?; Ok(4) }
            6 => { self.mm_start_brk = value.uint64()?; Ok(5) }
            7 => { self.mm_brk = value.uint64()?; Ok(6) }
            8 => { self.mm_arg_start = value.uint64()?; Ok(7) }
            9 => { self.mm_arg_end = value.uint64()?; Ok(8) }
            10 => { self.mm_env_start = value.uint64()?; Ok(9) }
            11 => { self.mm_env_end = value.uint64()?; Ok(10) }
            12 => { self.exe_file_id = value.uint32()?; Ok(11) }
            13 => { value.repeat(&mut self.mm_saved_auxv, WireType::Varint, Value::uint64)?; Ok(12) }
            14 => { value.push(&mut self.vmas)?; Ok(13) }
            15 => { self.dumpable = Some(value.int32()?); Ok(14) }
            16 => { value.push(&mut self.aios)?; Ok(15) }
            17 => { self.thp_disabled = Some(value.bool()?); Ok(16) }
            _ => Ok(UNKNOWN),
        }
    }
}

static AIO_RING_ENTRY: Message = Message::new("aio_ring_entry", &[
    Field::new(1, "id", Required, Type::Uint64),
    Field::new(2, "nr_req", Required, Type::Uint32),
    Field::new(3, "ring_len", Required, Type::Uint32),
]);
impl Entry for messages::AioRingEntry {
    fn schema() -> &'static Message { &AIO_RING_ENTRY }
}
impl Fields for messages::AioRingEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.id = value.uint64()?; Ok(0) }
            2 => { self.nr_req = value.uint32()?; Ok(1) }
            3 => { self.ring_len = value.uint32()?; Ok(2) }
            _ => Ok(UNKNOWN),
        }
    }
}

static VMA_ENTRY: Message = Message::new("vma_entry", &[
    Field::new(1, "start", Required, Type::Uint64).shown(Show::Hex),
    Field::new(2, "end", Required, Type::Uint64).shown(Show::Hex),
    Field::new(3, "pgoff", Required, Type::Uint64),
    Field::new(4, "shmid", Required, Type::Uint64),
    Field::new(5, "prot", Required, Type::Uint32).shown(Show::Flags("mmap.prot")),
    Field::new(6, "flags", Required, Type::Uint32).shown(Show::Flags("mmap.flags")),
    Field::new(7, "status", Required, Type::Uint32).shown(Show::Flags("mmap.status")),
    Field::new(8, "fd", Required, Type::Sint64),
    Field::new(9, "madv", Optional, Type::Uint64).shown(Show::Hex),
    Field::new(10, "fdflags", Optional, Type::Uint32).shown(Show::Hex),
]);
impl Entry for messages::VmaEntry {
    fn schema() -> &'static Message { &VMA_ENTRY }
}
impl Fields for messages::VmaEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.start = value.uint64()?; Ok(0) }
            2 => { self.end = value.uint64()?; Ok(1) }
            3 => { self.pgoff = value.uint64()?; Ok(2) }
            4 => { self.shmid = value.uint64()?; Ok(3) }
            5 => { self.prot = value.uint32()?; Ok(4) }
            6 => { self.flags = value.uint32()?; Ok(5) }
            7 => { self.status = value.uint32()?; Ok(6) }
            8 => { self.fd = value.sint64()?; Ok(7) }
            9 => { self.madv = Some(value.uint64()?); Ok(8) }
            10 => { self.fdflags = Some(value.uint32()?); Ok(9) }
            _ => Ok(UNKNOWN),
        }
    }
}

static PAGEMAP_HEAD: Message = Message::new("pagemap_head", &[
    Field::new(1, "pages_id", Required, Type::Uint32),
]);
impl Entry for messages::PagemapHead {
    fn schema() -> &'static Message { &PAGEMAP_HEAD }
}
impl Fields for messages::PagemapHead {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.pages_id = value.uint32()?; Ok(0) }
            _ => Ok(UNKNOWN),
        }
    }
}

static PAGEMAP_ENTRY: Message = Message::new("pagemap_entry", &[
    Field::new(1, "vaddr", Required, Type::Uint64).shown(Show::Hex),
    Field::new(2, "compat_nr_pages", Required, Type::Uint32),
    Field::new(3, "in_parent", Optional, Type::Bool),
    Field::new(4, "flags", Optional, Type::Uint32).shown(Show::Flags("pmap.flags")),
    Field::new(5, "nr_pages", Optional, Type::Uint64),
    Field::new(6, "blocks", Optional, Type::Message(&PAGEMAP_BLOCKS)),
]);
impl Entry for messages::PagemapEntry {
    fn schema() -> &'static Message { &PAGEMAP_ENTRY }
}
impl Fields for messages::PagemapEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.vaddr = value.uint64()?; Ok(0) }
            2 => { self.compat_nr_pages = value.uint32()?; Ok(1) }
            3 => { self.in_parent = Some(value.bool()?); Ok(2) }
            4 => { self.flags = Some(value.uint32()?); Ok(3) }
            5 => { self.nr_pages = Some(value.uint64()?); Ok(4) }
            6 => { value.message(self.blocks.get_or_insert_default())?; Ok(5) }
            _ => Ok(UNKNOWN),
        }
    }
}

static PAGEMAP_BLOCKS: Message = Message::new("pagemap_blocks", &[
    Field::new(1, "block_sizes", Repeated, Type::Uint32).packed(),
    Field::new(2, "total_payload_size", Required, Type::Uint64),
    Field::new(3, "pages_per_block", Required, Type::Uint32),
]);
impl Entry for messages::PagemapBlocks {
    fn schema() -> &'static Message { &PAGEMAP_BLOCKS }
}
impl Fields for messages::PagemapBlocks {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { value.repeat(&mut self.block_sizes, WireType::Varint, Value::uint32)?; Ok(0) }
            2 => { self.total_payload_size = value.uint64()?; Ok(1) }
            3 => { self.pages_per_block = value.uint32()?; Ok(2) }
            _ => Ok(UNKNOWN),
        }
    }
}

static MNT_ENTRY: Message = Message::new("mnt_entry", &[
    Field::new(1, "fstype", Required, Type::Uint32),
    Field::new(2, "mnt_id", Required, Type::Uint32),
    Field::new(3, "root_dev", Required, Type::Uint32).shown(Show::Dev),
    Field::new(4, "parent_mnt_id", Required, Type::Uint32),
    Field::new(5, "flags", Required, Type::Uint32).shown(Show::Hex),
    Field::new(6, "root", Required, Type::String),
    Field::new(7, "mountpoint", Required, Type::String),
    Field::new(8, "source", Required, Type::String),
    Field::new(9, "options", Required, Type::String),
    Field::new(10, "shared_id", Optional, Type::Uint32),
    Field::new(11, "master_id", Optional, Type::Uint32),
    Field::new(12, "with_plugin", Optional, Type::Bool),
    Field::new(13, "ext_mount", Optional, Type::Bool),
    Field::new(14, "fsname", Optional, Type::String),
    Field::new(15, "internal_sharing", Optional, Type::Bool),
    Field::new(16, "deleted", Optional, Type::Bool),
    Field::new(17, "sb_flags", Optional, Type::Uint32).shown(Show::Hex),
    Field::new(18, "ext_key", Optional, Type::String),
]);
impl Entry for messages::MntEntry {
    fn schema() -> &'static Message { &MNT_ENTRY }
}
impl Fields for messages::MntEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.fstype = value.uint32()?; Ok(0) }
            2 => { self.mnt_id = value.uint32()?; Ok(1) }
            3 => { self.root_dev = value.uint32()?; Ok(2) }
            4 => { self.parent_mnt_id = value.uint32()?; Ok(3) }
            5 => { self.flags = value.uint32()?; Ok(4) }
            6 => { self.root = value.bytes()?; Ok(5) }
            7 => { self.mountpoint = value.bytes()?; Ok(6) }
            8 => { self.source = value.bytes()?; Ok(7) }
            9 => { self.options = value.bytes()?; Ok(8) }
            10 => { self.shared_id = Some(value.uint32()?); Ok(9) }
            11 => { self.master_id = Some(value.uint32()?); Ok(10) }
            12 => { self.with_plugin = Some(value.bool()?); Ok(11) }
            13 => { self.ext_mount = Some(value.bool()?); Ok(12) }
            14 => { self.fsname = Some(value.bytes()?); Ok(13) }
            15 => { self.internal_sharing = Some(value.bool()?); Ok(14) }
            16 => { self.deleted = Some(value.bool()?); Ok(15) }
            17 => { self.sb_flags = Some(value.uint32()?); Ok(16) }
            18 => { self.ext_key = Some(value.bytes()?); Ok(17) }
            _ => Ok(UNKNOWN),
        }
    }
}

static AUTOFS_ENTRY: Message = Message::new("autofs_entry", &[
    Field::new(1, "fd", Required, Type::Int32),
    Field::new(2, "pgrp", Required, Type::Int32),
    Field::new(3, "timeout", Required, Type::Int32),
    Field::new(4, "minproto", Required, Type::Int32),
    Field::new(5, "maxproto", Required, Type::Int32),
    Field::new(6, "mode", Required, Type::Int32),
    Field::new(7, "uid", Optional, Type::Int32),
    Field::new(8, "gid", Optional, Type::Int32),
    Field::new(9, "read_fd", Optional, Type::Int32),
]);
impl Entry for messages::AutofsEntry {
    fn schema() -> &'static Message { &AUTOFS_ENTRY }
}
impl Fields for messages::AutofsEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.fd = value.int32()?; Ok(0) }
            2 => { self.pgrp = value.int32()?; Ok(1) }
            3 => { self.timeout = value.int32()?; Ok(2) }
            4 => { self.minproto = value.int32()?; Ok(3) }
            5 => { self.maxproto = value.int32()?; Ok(4) }
            6 => { self.mode = value.int32()?; Ok(5) }
            7 => { self.uid = Some(value.int32()?); Ok(6) }
            8 => { self.gid = Some(value.int32()?); Ok(7) }
            9 => { self.read_fd = Some(value.int32()?); Ok(8) }
            _ => Ok(UNKNOWN),
        }
    }
}

static BINFMT_MISC_ENTRY: Message = Message::new("binfmt_misc_entry", &[
    Field::new(1, "name", Required, Type::String),
    Field::new(2, "enabled", Required, Type::Bool),
    Field::new(3, "interpreter", Required, Type::String),
    Field::new(4, "flags", Optional, Type::String),
    Field::new(5, "extension", Optional, Type::String),
    Field::new(6, "magic", Optional, Type::String),
    Field::new(7, "mask", Optional, Type::String),
    Field::new(8, "offset", Optional, Type::Int32),
]);
impl Entry for messages::BinfmtMiscEntry {
    fn schema() -> &'static Message { &BINFMT_MISC_ENTRY }
}
impl Fields for messages::BinfmtMiscEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.name = value.bytes()?; Ok(0) }
            2 => { self.enabled = value.bool()?; Ok(1) }
            3 => { self.interpreter = value.bytes()?; Ok(2) }
            4 => { self.flags = Some(value.bytes()?); Ok(3) }
            5 => { self.extension = Some(value.bytes()?); Ok(4) }
            6 => { self.magic = Some(value.bytes()?); Ok(5) }
            7 => { self.mask = Some(value.bytes()?); Ok(6) }
            8 => { self.offset = Some(value.int32()?); Ok(7) }
            _ => Ok(UNKNOWN),
        }
    }
}

static USERNS_ENTRY: Message = Message::new("userns_entry", &[
    Field::new(1, "uid_map", Repeated, Type::Message(&UID_GID_EXTENT)),
    Field::new(2, "gid_map", Repeated, Type::Message(&UID_GID_EXTENT)),
    Field::new(3, "binfmt_misc", Repeated, Type::Message(&BINFMT_MISC_ENTRY)),
]);
impl Entry for messages::UsernsEntry {
    fn schema() -> &'static Message { &USERNS_ENTRY }
}
impl Fields for messages::UsernsEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { value.push(&mut self.uid_map)?; Ok(0) }
            2 => { value.push(&mut self.gid_map)?; Ok(1) }
            3 => { value.push(&mut self.binfmt_misc)?; Ok(2) }
            _ => Ok(UNKNOWN),
        }
    }
}

static UID_GID_EXTENT: Message = Message::new("uid_gid_extent", &[
    Field::new(1, "first", Required, Type::Uint32),
    Field::new(2, "lower_first", Required, Type::Uint32),
    Field::new(3, "count", Required, Type::Uint32),
]);
impl Entry for messages::UidGidExtent {
    fn schema() -> &'static Message { &UID_GID_EXTENT }
}
impl Fields for messages::UidGidExtent {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.first = value.uint32()?; Ok(0) }
            2 => { self.lower_first = value.uint32()?; Ok(1) }
            3 => { self.count = value.uint32()?; Ok(2) }
            _ => Ok(UNKNOWN),
        }
    }
}

static UTSNS_ENTRY: Message = Message::new("utsns_entry", &[
    Field::new(1, "nodename", Required, Type::String),
    Field::new(2, "domainname", Required, Type::String),
]);
impl Entry for messages::UtsnsEntry {
    fn schema() -> &'static Message { &UTSNS_ENTRY }
}
impl Fields for messages::UtsnsEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.nodename = value.bytes()?; Ok(0) }
            2 => { self.domainname = value.bytes()?; Ok(1) }
            _ => Ok(UNKNOWN),
        }
    }
}

static TIMENS_ENTRY: Message = Message::new("timens_entry", &[
    Field::new(1, "monotonic", Required, Type::Message(&TIMESPEC)),
    Field::new(2, "boottime", Required, Type::Message(&TIMESPEC)),
]);
impl Entry for messages::TimensEntry {
    fn schema() -> &'static Message { &TIMENS_ENTRY }
}
impl Fields for messages::TimensEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { value.message(&mut self.monotonic)?; Ok(0) }
            2 => { value.message(&mut self.boottime)?; Ok(1) }
            _ => Ok(UNKNOWN),
        }
    }
}

static TIMESPEC: Message = Message::new("timespec", &[
    Field::new(1, "tv_sec", Required, Type::Uint64),
    Field::new(2, "tv_nsec", Required, Type::Uint64),
]);
impl Entry for messages::Timespec {
    fn schema() -> &'static Message { &TIMESPEC }
}
impl Fields for messages::Timespec {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.tv_sec = value.uint64()?; Ok(0) }
            2 => { self.tv_nsec = value.uint64()?; Ok(1) }
            _ => Ok(UNKNOWN),
        }
    }
}

static PIDNS_ENTRY: Message = Message::new("pidns_entry", &[
    Field::new(1, "ext_key", Optional, Type::String),
]);
impl Entry for messages::PidnsEntry {
    fn schema() -> &'static Message { &PIDNS_ENTRY }
}
impl Fields for messages::PidnsEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.ext_key = Some(value.bytes()?); Ok(0) }
            _ => Ok(UNKNOWN),
        }
    }
}

static IPC_VAR_ENTRY: Message = Message::new("ipc_var_entry", &[
    Field::new(1, "sem_ctls", Repeated, Type::Uint32),
    Field::new(2, "msg_ctlmax", Required, Type::Uint32),
    Field::new(3, "msg_ctlmnb", Required, Type::Uint32),
    Field::new(4, "msg_ctlmni", Required, Type::Uint32),
    Field::new(5, "auto_msgmni", Required, Type::Uint32),
    Field::new(6, "shm_ctlmax", Required, Type::Uint64),
    Field::new(7, "shm_ctlall", Required, Type::Uint64),
    Field::new(8, "shm_ctlmni", Required, Type::Uint32),
    Field::new(9, "shm_rmid_forced", Required, Type::Uint32),
    Field::new(10, "mq_queues_max", Required, Type::Uint32),
    Field::new(11, "mq_msg_max", Required, Type::Uint32),
    Field::new(12, "mq_msgsize_max", Required, Type::Uint32),
    Field::new(13, "mq_msg_default", Optional, Type::Uint32),
    Field::new(14, "mq_msgsize_default", Optional, Type::Uint32),
    Field::new(15, "msg_next_id", Optional, Type::Uint32),
    Field::new(16, "sem_next_id", Optional, Type::Uint32),
    Field::new(17, "shm_next_id", Optional, Type::Uint32),
]);
impl Entry for messages::IpcVarEntry {
    fn schema() -> &'static Message { &IPC_VAR_ENTRY }
}
impl Fields for messages::IpcVarEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { value.repeat(&mut self.sem_ctls, WireType::Varint, Value::uint32)?; Ok(0) }
            2 => { self.msg_ctlmax = value.uint32()?; Ok(1) }
            3 => { self.msg_ctlmnb = value.uint32()?; Ok(2) }
            4 => { self.msg_ctlmni = value.uint32()?; Ok(3) }
            5 => { self.auto_msgmni = value.uint32()?; Ok(4) }
            6 => { self.shm_ctlmax = value.uint64()?; Ok(5) }
            7 => { self.shm_ctlall = value.uint64()?; Ok(6) }
            8 => { self.shm_ctlmni = value.uint32()?; Ok(7) }
            9 => { self.shm_rmid_forced = value.uint32()?; Ok(8) }
            10 => { self.mq_queues_max = value.uint32()?; Ok(9) }
            11 => { self.mq_msg_max = value.uint32()?; Ok(10) }
            12 => { self.mq_msgsize_max = value.uint32()?; Ok(11) }
            13 => { self.mq_msg_default = Some(value.uint32()?); Ok(12) }
            14 => { self.mq_msgsize_default = Some(value.uint32()?); Ok(13) }
            15 => { self.msg_next_id = Some(value.uint32()?); Ok(14) }
            16 => { self.sem_next_id = Some(value.uint32()?); Ok(15) }
            17 => { self.shm_next_id = Some(value.uint32()?); Ok(16) }
            _ => Ok(UNKNOWN),
        }
    }
}

static IPC_DESC_ENTRY: Message = Message::new("ipc_desc_entry", &[
    Field::new(1, "key", Required, Type::Uint32),
    Field::new(2, "uid", Required, Type::Uint32),
    Field::new(3, "gid", Required, Type::Uint32),
    Field::new(4, "cuid", Required, Type::Uint32),
    Field::new(5, "cgid", Required, Type::Uint32),
    Field::new(6, "mode", Required, Type::Uint32),
    Field::new(7, "id", Required, Type::Uint32),
]);
impl Entry for messages::IpcDescEntry {
    fn schema() -> &'static Message { &IPC_DESC_ENTRY }
}
impl Fields for messages::IpcDescEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.key = value.uint32()?; Ok(0) }
            2 => { self.uid = value.uint32()?; Ok(1) }
            3 => { self.gid = value.uint32()?; Ok(2) }
            4 => { self.cuid = value.uint32()?; Ok(3) }
            5 => { self.cgid = value.uint32()?; Ok(4) }
            6 => { self.mode = value.uint32()?; Ok(5) }
            7 => { self.id = value.uint32()?; Ok(6) }
            _ => Ok(UNKNOWN),
        }
    }
}

static IPC_SHM_ENTRY: Message = Message::new("ipc_shm_entry", &[
    Field::new(1, "desc", Required, Type::Message(&IPC_DESC_ENTRY)),
    Field::new(2, "size", Required, Type::Uint64),
    Field::new(3, "in_pagemaps", Optional, Type::Bool),
    Field::new(4, "hugetlb_flag", Optional, Type::Uint32),
]);
impl Entry for messages::IpcShmEntry {
    fn schema() -> &'static Message { &IPC_SHM_ENTRY }
}
impl Fields for messages::IpcShmEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { value.message(&mut self.desc)?; Ok(0) }
            2 => { self.size = value.uint64()?; Ok(1) }
            3 => { self.in_pagemaps = Some(value.bool()?); Ok(2) }
            4 => { self.hugetlb_flag = Some(value.uint32()?); Ok(3) }
            _ => Ok(UNKNOWN),
        }
    }
}

static IPC_MSG_ENTRY: Message = Message::new("ipc_msg_entry", &[
    Field::new(1, "desc", Required, Type::Message(&IPC_DESC_ENTRY)),
    Field::new(2, "qbytes", Required, Type::Uint32),
    Field::new(3, "qnum", Required, Type::Uint32),
]);
impl Entry for messages::IpcMsgEntry {
    fn schema() -> &'static Message { &IPC_MSG_ENTRY }
}
impl Fields for messages::IpcMsgEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { value.message(&mut self.desc)?; Ok(0) }
            2 => { self.qbytes = value.uint32()?; Ok(1) }
            3 => { self.qnum = value.uint32()?; Ok(2) }
            _ => Ok(UNKNOWN),
        }
    }
}

static IPC_MSG: Message = Message::new("ipc_msg", &[
    Field::new(1, "mtype", Required, Type::Uint64),
    Field::new(2, "msize", Required, Type::Uint32),
]);
impl Entry for messages::IpcMsg {
    fn schema() -> &'static Message { &IPC_MSG }
}
impl Fields for messages::IpcMsg {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.mtype = value.uint64()?; Ok(0) }
            2 => { self.msize = value.uint32()?; Ok(1) }
            _ => Ok(UNKNOWN),
        }
    }
}

static IPC_SEM_ENTRY: Message = Message::new("ipc_sem_entry", &[
    Field::new(1, "desc", Required, Type::Message(&IPC_DESC_ENTRY)),
    Field::new(2, "nsems", Required, Type::Uint32),
]);
impl Entry for messages::IpcSemEntry {
    fn schema() -> &'static Message { &IPC_SEM_ENTRY }
}
impl Fields for messages::IpcSemEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { value.message(&mut self.desc)?; Ok(0) }
            2 => { self.nsems = value.uint32()?; Ok(1) }
            _ => Ok(UNKNOWN),
        }
    }
}

static ENUM_ND_TYPE: Enum = Enum::new(&[
    (1, "LOOPBACK"),
    (2, "VETH"),
    (3, "TUN"),
    (4, "EXTLINK"),
    (5, "VENET"),
    (6, "BRIDGE"),
    (7, "MACVLAN"),
    (8, "SIT"),
]);

static ENUM_SYSCTLTYPE: Enum = Enum::new(&[
    (5, "CTL_STR"),
    (6, "CTL_32"),
]);

static NETNS_ENTRY: Message = Message::new("netns_entry", &[
    Field::new(1, "def_conf", Repeated, Type::Int32),
    Field::new(2, "all_conf", Repeated, Type::Int32),
    Field::new(3, "def_conf4", Repeated, Type::Message(&SYSCTL_ENTRY)),
    Field::new(4, "all_conf4", Repeated, Type::Message(&SYSCTL_ENTRY)),
    Field::new(5, "def_conf6", Repeated, Type::Message(&SYSCTL_ENTRY)),
    Field::new(6, "all_conf6", Repeated, Type::Message(&SYSCTL_ENTRY)),
    Field::new(7, "nsids", Repeated, Type::Message(&NETNS_ID)),
    Field::new(8, "ext_key", Optional, Type::String),
    Field::new(9, "unix_conf", Repeated, Type::Message(&SYSCTL_ENTRY)),
    Field::new(10, "ipv4_sysctl", Repeated, Type::Message(&SYSCTL_ENTRY)),
]);
impl Entry for messages::NetnsEntry {
    fn schema() -> &'static Message { &NETNS_ENTRY }
}
impl Fields for messages::NetnsEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { value.repeat(&mut self.def_conf, WireType::Varint, Value::int32)?; Ok(0) }
            2 => { value.repeat(&mut self.all_conf, WireType::Varint, Value::int32)?; Ok(1) }
            3 => { value.push(&mut self.def_conf4)?; Ok(2) }
            4 => { value.push(&mut self.all_conf4)?; Ok(3) }
            5 => { value.push(&mut self.def_conf6)?; Ok(4) }
            6 => { value.push(&mut self.all_conf6)?; Ok(5) }
            7 => { value.push(&mut self.nsids)?; Ok(6) }
            8 => { self.ext_key = Some(value.bytes()?); Ok(7) }
            9 => { value.push(&mut self.unix_conf)?; Ok(8) }
            10 => { value.push(&mut self.ipv4_sysctl)?; Ok(9) }
            _ => Ok(UNKNOWN),
        }
    }
}

static NETNS_ID: Message = Message::new("netns_id", &[
    Field::new(1, "target_ns_id", Required, Type::Uint32),
    Field::new(2, "netnsid_value", Required, Type::Int32),
]);
impl Entry for messages::NetnsId {
    fn schema() -> &'static Message { &NETNS_ID }
}
impl Fields for messages::NetnsId {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.target_ns_id = value.uint32()?; Ok(0) }
            2 => { self.netnsid_value = value.int32()?; Ok(1) }
            _ => Ok(UNKNOWN),
        }
    }
}

static SYSCTL_ENTRY: Message = Message::new("sysctl_entry", &[
    Field::new(1, "type", Required, Type::Enum(&ENUM_SYSCTLTYPE)),
    Field::new(2, "iarg", Optional, Type::Int32),
    Field::new(3, "sarg", Optional, Type::String),
]);
impl Entry for messages::SysctlEntry {
    fn schema() -> &'static Message { &SYSCTL_ENTRY }
}
impl Fields for messages::SysctlEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.r#type = value.int32()?; Ok(0) }
            2 => { self.iarg = Some(value.int32()?); Ok(1) }
            3 => { self.sarg = Some(value.bytes()?); Ok(2) }
            _ => Ok(UNKNOWN),
        }
    }
}

static NET_DEVICE_ENTRY: Message = Message::new("net_device_entry", &[
    Field::new(1, "type", Required, Type::Enum(&ENUM_ND_TYPE)),
    Field::new(2, "ifindex", Required, Type::Uint32),
    Field::new(3, "mtu", Required, Type::Uint32),
    Field::new(4, "flags", Required, Type::Uint32).shown(Show::Hex),
    Field::new(5, "name", Required, Type::String),
    Field::new(6, "tun", Optional, Type::Message(&TUN_LINK_ENTRY)),
    Field::new(7, "address", Optional, Type::Bytes),
    Field::new(8, "conf", Repeated, Type::Int32),
    Field::new(9, "conf4", Repeated, Type::Message(&SYSCTL_ENTRY)),
    Field::new(10, "conf6", Repeated, Type::Message(&SYSCTL_ENTRY)),
    Field::new(11, "macvlan", Optional, Type::Message(&MACVLAN_LINK_ENTRY)),
    Field::new(12, "peer_ifindex", Optional, Type::Uint32),
    Field::new(13, "peer_nsid", Optional, Type::Uint32),
    Field::new(14, "master", Optional, Type::Uint32),
    Field::new(15, "sit", Optional, Type::Message(&SIT_ENTRY)),
]);
impl Entry for messages::NetDeviceEntry {
    fn schema() -> &'static Message { &NET_DEVICE_ENTRY }
}
impl Fields for messages::NetDeviceEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.r#type = value.int32()?; Ok(0) }
            2 => { self.ifindex = value.uint32()?; Ok(1) }
            3 => { self.mtu = value.uint32()?; Ok(2) }
            4 => { self.flags = value.uint32()?; Ok(3) }
            5 => { self.name = value.bytes()?; Ok(4) }
            6 => { value.message(self.tun.get_or_insert_default())?; Ok(5) }
            7 => { self.address = Some(value.bytes()?); Ok(6) }
            8 => { value.repeat(&mut self.conf, WireType::Varint, Value::int32)?; Ok(7) }
            9 => { value.push(&mut self.conf4)?; Ok(8) }
            10 => { value.push(&mut self.conf6)?; Ok(9) }
            11 => { value.message(self.macvlan.get_or_insert_default())?; Ok(10) }
            12 => { self.peer_ifindex = Some(value.uint32()?); Ok(11) }
            13 => { self.peer_nsid = Some(value.uint32()?); Ok(12) }
            14 => { self.master = Some(value.uint32()?); Ok(13) }
            15 => { value.message(self.sit.get_or_insert_default())?; Ok(14) }
            _ => Ok(UNKNOWN),
        }
    }
}

static TUN_LINK_ENTRY: Message = Message::new("tun_link_entry", &[
    Field::new(1, "flags", Required, Type::Uint32).shown(Show::Hex),
    Field::new(2, "owner", Required, Type::Int32),
    Field::new(3, "group", Required, Type::Int32),
    Field::new(4, "vnethdr", Required, Type::Uint32),
    Field::new(5, "sndbuf", Required, Type::Uint32),
]);
impl Entry for messages::TunLinkEntry {
    fn schema() -> &'static Message { &TUN_LINK_ENTRY }
}
impl Fields for messages::TunLinkEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.flags = value.uint32()?; Ok(0) }
            2 => { self.owner = value.int32()?; Ok(1) }
            3 => { self.group = value.int32()?; Ok(2) }
            4 => { self.vnethdr = value.uint32()?; Ok(3) }
            5 => { self.sndbuf = value.uint32()?; Ok(4) }
            _ => Ok(UNKNOWN),
        }
    }
}

static MACVLAN_LINK_ENTRY: Message = Message::new("macvlan_link_entry", &[
    Field::new(1, "mode", Required, Type::Uint32),
    Field::new(2, "flags", Optional, Type::Uint32),
]);
impl Entry for messages::MacvlanLinkEntry {
    fn schema() -> &'static Message { &MACVLAN_LINK_ENTRY }
}
impl Fields for messages::MacvlanLinkEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.mode = value.uint32()?; Ok(0) }
            2 => { self.flags = Some(value.uint32()?); Ok(1) }
            _ => Ok(UNKNOWN),
        }
    }
}

static SIT_ENTRY: Message = Message::new("sit_entry", &[
    Field::new(1, "link", Optional, Type::Uint32),
    Field::new(2, "local", Repeated, Type::Uint32).shown(Show::Ip),
    Field::new(3, "remote", Repeated, Type::Uint32).shown(Show::Ip),
    Field::new(4, "ttl", Optional, Type::Uint32),
    Field::new(5, "tos", Optional, Type::Uint32),
    Field::new(6, "pmtudisc", Optional, Type::Bool),
    Field::new(7, "proto", Optional, Type::Uint32),
    Field::new(8, "flags", Optional, Type::Uint32),
    Field::new(9, "encap_type", Optional, Type::Uint32),
    Field::new(10, "encap_flags", Optional, Type::Uint32),
    Field::new(11, "encap_sport", Optional, Type::Uint32),
    Field::new(12, "encap_dport", Optional, Type::Uint32),
    Field::new(13, "rd_prefixlen", Optional, Type::Uint32),
    Field::new(14, "rd_prefix", Repeated, Type::Uint32).shown(Show::Ip),
    Field::new(15, "relay_prefixlen", Optional, Type::Uint32),
    Field::new(16, "relay_prefix", Repeated, Type::Uint32).shown(Show::Ip),
]);
impl Entry for messages::SitEntry {
    fn schema() -> &'static Message { &SIT_ENTRY }
}
impl Fields for messages::SitEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.link = Some(value.uint32()?); Ok(0) }
            2 => { value.repeat(&mut self.local, WireType::Varint, Value::uint32)?; Ok(1) }
            3 => { value.repeat(&mut self.remote, WireType::Varint, Value::uint32)?; Ok(2) }
            4 => { self.ttl = Some(value.uint32()?); Ok(3) }
            5 => { self.tos = Some(value.uint32()?); Ok(4) }
            6 => { self.pmtudisc = Some(value.bool()?); Ok(5) }
            7 => { self.proto = Some(value.uint32()?); Ok(6) }
            8 => { self.flags = Some(value.uint32()?); Ok(7) }
            9 => { self.encap_type = Some(value.uint32()?); Ok(8) }
            10 => { self.encap_flags = Some(value.uint32()?); Ok(9) }
            11 => { self.encap_sport = Some(value.uint32()?); Ok(10) }
            12 => { self.encap_dport = Some(value.uint32()?); Ok(11) }
            13 => { self.rd_prefixlen = Some(value.uint32()?); Ok(12) }
            14 => { value.repeat(&mut self.rd_prefix, WireType::Varint, Value::uint32)?; Ok(13) }
            15 => { self.relay_prefixlen = Some(value.uint32()?); Ok(14) }
            16 => { value.repeat(&mut self.relay_prefix, WireType::Varint, Value::uint32)?; Ok(15) }
            _ => Ok(UNKNOWN),
        }
    }
}

static TCP_STREAM_ENTRY: Message = Message::new("tcp_stream_entry", &[
    Field::new(1, "inq_len", Required, Type::Uint32),
    Field::new(2, "inq_seq", Required, Type::Uint32),
    Field::new(3, "outq_len", Required, Type::Uint32),
    Field::new(4, "outq_seq", Required, Type::Uint32),
    Field::new(5, "opt_mask", Required, Type::Uint32).shown(Show::Hex),
    Field::new(6, "snd_wscale", Required, Type::Uint32),
    Field::new(7, "mss_clamp", Required, Type::Uint32),
    Field::new(8, "rcv_wscale", Optional, Type::Uint32),
    Field::new(9, "timestamp", Optional, Type::Uint32),
    Field::new(10, "cork", Optional, Type::Bool),
    Field::new(11, "nodelay", Optional, Type::Bool),
    Field::new(12, "unsq_len", Optional, Type::Uint32),
    Field::new(13, "snd_wl1", Optional, Type::Uint32),
    Field::new(14, "snd_wnd", Optional, Type::Uint32),
    Field::new(15, "max_window", Optional, Type::Uint32),
    Field::new(16, "rcv_wnd", Optional, Type::Uint32),
    Field::new(17, "rcv_wup", Optional, Type::Uint32),
]);
impl Entry for messages::TcpStreamEntry {
    fn schema() -> &'static Message { &TCP_STREAM_ENTRY }
}
impl Fields for messages::TcpStreamEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.inq_len = value.uint32()?; Ok(0) }
            2 => { self.inq_seq = value.uint32()?; Ok(1) }
            3 => { self.outq_len = value.uint32()?; Ok(2) }
            4 => { self.outq_seq = value.uint32()?; Ok(3) }
            5 => { self.opt_mask = value.uint32()?; Ok(4) }
            6 => { self.snd_wscale = value.uint32()?; Ok(5) }
            7 => { self.mss_clamp = value.uint32()?; Ok(6) }
            8 => { self.rcv_wscale = Some(value.uint32()?); Ok(7) }
            9 => { self.timestamp = Some(value.uint32()?); Ok(8) }
            10 => { self.cork = Some(value.bool()?); Ok(9) }
            11 => { self.nodelay = Some(value.bool()?); Ok(10) }
            12 => { self.unsq_len = Some(value.uint32()?); Ok(11) }
            13 => { self.snd_wl1 = Some(value.uint32()?); Ok(12) }
            14 => { self.snd_wnd = Some(value.uint32()?); Ok(13) }
            15 => { self.max_window = Some(value.uint32()?); Ok(14) }
            16 => { self.rcv_wnd = Some(value.uint32()?); Ok(15) }
            17 => { self.rcv_wup = Some(value.uint32()?); Ok(16) }
            _ => Ok(UNKNOWN),
        }
    }
}

static SECCOMP_ENTRY: Message = Message::new("seccomp_entry", &[
    Field::new(1, "seccomp_filters", Repeated, Type::Message(&SECCOMP_FILTER)),
]);
impl Entry for messages::SeccompEntry {
    fn schema() -> &'static Message { &SECCOMP_ENTRY }
}
impl Fields for messages::SeccompEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { value.push(&mut self.seccomp_filters)?; Ok(0) }
            _ => Ok(UNKNOWN),
        }
    }
}

static SECCOMP_FILTER: Message = Message::new("seccomp_filter", &[
    Field::new(1, "filter", Required, Type::Bytes),
    Field::new(2, "prev", Optional, Type::Uint32),
    Field::new(3, "flags", Optional, Type::Uint32),
]);
impl Entry for messages::SeccompFilter {
    fn schema() -> &'static Message { &SECCOMP_FILTER }
}
impl Fields for messages::SeccompFilter {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.filter = value.bytes()?; Ok(0) }
            2 => { self.prev = Some(value.uint32()?); Ok(1) }
            3 => { self.flags = Some(value.uint32()?); Ok(2) }
            _ => Ok(UNKNOWN),
        }
    }
}

static APPARMOR_ENTRY: Message = Message::new("apparmor_entry", &[
    Field::new(1, "namespaces", Repeated, Type::Message(&AA_NAMESPACE)),
]);
impl Entry for messages::ApparmorEntry {
    fn schema() -> &'static Message { &APPARMOR_ENTRY }
}
impl Fields for messages::ApparmorEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { value.push(&mut self.namespaces)?; Ok(0) }
            _ => Ok(UNKNOWN),
        }
    }
}

static AA_NAMESPACE: Message = Message::new("aa_namespace", &[
    Field::new(1, "name", Required, Type::String),
    Field::new(2, "policies", Repeated, Type::Message(&AA_POLICY)),
    Field::new(3, "namespaces", Repeated, Type::Message(&AA_NAMESPACE)),
]);
impl Entry for messages::AaNamespace {
    fn schema() -> &'static Message { &AA_NAMESPACE }
}
impl Fields for messages::AaNamespace {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.name = value.bytes()?; Ok(0) }
            2 => { value.push(&mut self.policies)?; Ok(1) }
            3 => { value.push(&mut self.namespaces)?; Ok(2) }
            _ => Ok(UNKNOWN),
        }
    }
}

static AA_POLICY: Message = Message::new("aa_policy", &[
    Field::new(1, "name", Required, Type::String),
    Field::new(2, "blob", Required, Type::Bytes),
]);
impl Entry for messages::AaPolicy {
    fn schema() -> &'static Message { &AA_POLICY }
}
impl Fields for messages::AaPolicy {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.name = value.bytes()?; Ok(0) }
            2 => { self.blob = value.bytes()?; Ok(1) }
            _ => Ok(UNKNOWN),
        }
    }
}

static CGROUP_ENTRY: Message = Message::new("cgroup_entry", &[
    Field::new(1, "sets", Repeated, Type::Message(&CG_SET_ENTRY)),
    Field::new(2, "controllers", Repeated, Type::Message(&CG_CONTROLLER_ENTRY)),
]);
impl Entry for messages::CgroupEntry {
    fn schema() -> &'static Message { &CGROUP_ENTRY }
}
impl Fields for messages::CgroupEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { value.push(&mut self.sets)?; Ok(0) }
            2 => { value.push(&mut self.controllers)?; Ok(1) }
            _ => Ok(UNKNOWN),
        }
    }
}

static CG_SET_ENTRY: Message = Message::new("cg_set_entry", &[
    Field::new(1, "id", Required, Type::Uint32),
    Field::new(2, "ctls", Repeated, Type::Message(&CG_MEMBER_ENTRY)),
]);
impl Entry for messages::CgSetEntry {
    fn schema() -> &'static Message { &CG_SET_ENTRY }
}
impl Fields for messages::CgSetEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.id = value.uint32()?; Ok(0) }
            2 => { value.push(&mut self.ctls)?; Ok(1) }
            _ => Ok(UNKNOWN),
        }
    }
}

static CG_MEMBER_ENTRY: Message = Message::new("cg_member_entry", &[
    Field::new(1, "name", Required, Type::String),
    Field::new(2, "path", Required, Type::String),
    Field::new(3, "cgns_prefix", Optional, Type::Uint32),
]);
impl Entry for messages::CgMemberEntry {
    fn schema() -> &'static Message { &CG_MEMBER_ENTRY }
}
impl Fields for messages::CgMemberEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.name = value.bytes()?; Ok(0) }
            2 => { self.path = value.bytes()?; Ok(1) }
            3 => { self.cgns_prefix = Some(value.uint32()?); Ok(2) }
            _ => Ok(UNKNOWN),
        }
    }
}

static CG_CONTROLLER_ENTRY: Message = Message::new("cg_controller_entry", &[
    Field::new(1, "cnames", Repeated, Type::String),
    Field::new(2, "dirs", Repeated, Type::Message(&CGROUP_DIR_ENTRY)),
    Field::new(3, "is_threaded", Optional, Type::Bool),
]);
impl Entry for messages::CgControllerEntry {
    fn schema() -> &'static Message { &CG_CONTROLLER_ENTRY }
}
impl Fields for messages::CgControllerEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.cnames.push(value.bytes()?); Ok(0) }
            2 => { value.push(&mut self.dirs)?; Ok(1) }
            3 => { self.is_threaded = Some(value.bool()?); Ok(2) }
            _ => Ok(UNKNOWN),
        }
    }
}

static CGROUP_DIR_ENTRY: Message = Message::new("cgroup_dir_entry", &[
    Field::new(1, "dir_name", Required, Type::String),
    Field::new(2, "children", Repeated, Type::Message(&CGROUP_DIR_ENTRY)),
    Field::new(3, "properties", Repeated, Type::Message(&CGROUP_PROP_ENTRY)),
    Field::new(4, "dir_perms", Optional, Type::Message(&CGROUP_PERMS)),
]);
impl Entry for messages::CgroupDirEntry {
    fn schema() -> &'static Message { &CGROUP_DIR_ENTRY }
}
impl Fields for messages::CgroupDirEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.dir_name = value.bytes()?; Ok(0) }
            2 => { value.push(&mut self.children)?; Ok(1) }
            3 => { value.push(&mut self.properties)?; Ok(2) }
            4 => { value.message(self.dir_perms.get_or_insert_default())?; Ok(3) }
            _ => Ok(UNKNOWN),
        }
    }
}

static CGROUP_PROP_ENTRY: Message = Message::new("cgroup_prop_entry", &[
    Field::new(1, "name", Required, Type::String),
    Field::new(2, "value", Required, Type::String),
    Field::new(3, "perms", Optional, Type::Message(&CGROUP_PERMS)),
]);
impl Entry for messages::CgroupPropEntry {
    fn schema() -> &'static Message { &CGROUP_PROP_ENTRY }
}
impl Fields for messages::CgroupPropEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.name = value.bytes()?; Ok(0) }
            2 => { self.value = value.bytes()?; Ok(1) }
            3 => { value.message(self.perms.get_or_insert_default())?; Ok(2) }
            _ => Ok(UNKNOWN),
        }
    }
}

static CGROUP_PERMS: Message = Message::new("cgroup_perms", &[
    Field::new(1, "mode", Required, Type::Uint32),
    Field::new(2, "uid", Required, Type::Uint32),
    Field::new(3, "gid", Required, Type::Uint32),
]);
impl Entry for messages::CgroupPerms {
    fn schema() -> &'static Message { &CGROUP_PERMS }
}
impl Fields for messages::CgroupPerms {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.mode = value.uint32()?; Ok(0) }
            2 => { self.uid = value.uint32()?; Ok(1) }
            3 => { self.gid = value.uint32()?; Ok(2) }
            _ => Ok(UNKNOWN),
        }
    }
}

static STATS_ENTRY: Message = Message::new("stats_entry", &[
    Field::new(1, "dump", Optional, Type::Message(&DUMP_STATS_ENTRY)),
    Field::new(2, "restore", Optional, Type::Message(&RESTORE_STATS_ENTRY)),
]);
impl Entry for messages::StatsEntry {
    fn schema() -> &'static Message { &STATS_ENTRY }
}
impl Fields for messages::StatsEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { value.message(self.dump.get_or_insert_default())?; Ok(0) }
            2 => { value.message(self.restore.get_or_insert_default())?; Ok(1) }
            _ => Ok(UNKNOWN),
        }
    }
}

static DUMP_STATS_ENTRY: Message = Message::new("dump_stats_entry", &[
    Field::new(1, "freezing_time", Required, Type::Uint32),
    Field::new(2, "frozen_time", Required, Type::Uint32),
    Field::new(3, "memdump_time", Required, Type::Uint32),
    Field::new(4, "memwrite_time", Required, Type::Uint32),
    Field::new(5, "pages_scanned", Required, Type::Uint64),
    Field::new(6, "pages_skipped_parent", Required, Type::Uint64),
    Field::new(7, "pages_written", Required, Type::Uint64),
    Field::new(8, "irmap_resolve", Optional, Type::Uint32),
    Field::new(9, "pages_lazy", Required, Type::Uint64),
    Field::new(10, "page_pipes", Optional, Type::Uint64),
    Field::new(11, "page_pipe_bufs", Optional, Type::Uint64),
    Field::new(12, "shpages_scanned", Optional, Type::Uint64),
    Field::new(13, "shpages_skipped_parent", Optional, Type::Uint64),
    Field::new(14, "shpages_written", Optional, Type::Uint64),
]);
impl Entry for messages::DumpStatsEntry {
    fn schema() -> &'static Message { &DUMP_STATS_ENTRY }
}
impl Fields for messages::DumpStatsEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.freezing_time = value.uint32()?; Ok(0) }
            2 => { self.frozen_time = value.uint32()?; Ok(1) }
            3 => { self.memdump_time = value.uint32()?; Ok(2) }
            4 => { self.memwrite_time = value.uint32()?; Ok(3) }
            5 => { self.pages_scanned = value.uint64()?; Ok(4) }
            6 => { self.pages_skipped_parent = value.uint64()?; Ok(5) }
            7 => { self.pages_written = value.uint64()?; Ok(6) }
            8 => { self.irmap_resolve = Some(value.uint32()?); Ok(7) }
            9 => { self.pages_lazy = value.uint64()?; Ok(8) }
            10 => { self.page_pipes = Some(value.uint64()?); Ok(9) }
            11 => { self.page_pipe_bufs = Some(value.uint64()?); Ok(10) }
            12 => { self.shpages_scanned = Some(value.uint64()?); Ok(11) }
            13 => { self.shpages_skipped_parent = Some(value.uint64()?); Ok(12) }
            14 => { self.shpages_written = Some(value.uint64()?); Ok(13) }
            _ => Ok(UNKNOWN),
        }
    }
}

static RESTORE_STATS_ENTRY: Message = Message::new("restore_stats_entry", &[
    Field::new(1, "pages_compared", Required, Type::Uint64),
    Field::new(2, "pages_skipped_cow", Required, Type::Uint64),
    Field::new(3, "forking_time", Required, Type::Uint32),
    Field::new(4, "restore_time", Required, Type::Uint32),
    Field::new(5, "pages_restored", Optional, Type::Uint64),
]);
impl Entry for messages::RestoreStatsEntry {
    fn schema() -> &'static Message { &RESTORE_STATS_ENTRY }
}
impl Fields for messages::RestoreStatsEntry {
    #[inline]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault> {
        match number {
            1 => { self.pages_compared = value.uint64()?; Ok(0) }
            2 => { self.pages_skipped_cow = value.uint64()?; Ok(1) }
            3 => { self.forking_time = value.uint32()?; Ok(2) }
            4 => { self.restore_time = value.uint32()?; Ok(3) }
            5 => { self.pages_restored = Some(value.uint64()?); Ok(4) }
            _ => Ok(UNKNOWN),
        }
    }
}

/// Every message, by rising name.
pub(crate) static ALL: &[&Message] = &[
    &AA_NAMESPACE,
    &AA_POLICY,
    &AIO_RING_ENTRY,
    &APPARMOR_ENTRY,
    &AUTOFS_ENTRY,
    &BINFMT_MISC_ENTRY,
    &BPFMAP_DATA_ENTRY,
    &BPFMAP_FILE_ENTRY,
    &CG_CONTROLLER_ENTRY,
    &CG_MEMBER_ENTRY,
    &CG_SET_ENTRY,
    &CGROUP_DIR_ENTRY,
    &CGROUP_ENTRY,
    &CGROUP_PERMS,
    &CGROUP_PROP_ENTRY,
    &CORE_ENTRY,
    &CPUINFO_ENTRY,
    &CPUINFO_PPC64_ENTRY,
    &CPUINFO_S390_ENTRY,
    &CPUINFO_X86_ENTRY,
    &CREDS_ENTRY,
    &DUMP_STATS_ENTRY,
    &EVENTFD_FILE_ENTRY,
    &EVENTPOLL_FILE_ENTRY,
    &EVENTPOLL_TFD_ENTRY,
    &EXT_FILE_ENTRY,
    &FANOTIFY_FILE_ENTRY,
    &FANOTIFY_INODE_MARK_ENTRY,
    &FANOTIFY_MARK_ENTRY,
    &FANOTIFY_MOUNT_MARK_ENTRY,
    &FDINFO_ENTRY,
    &FH_ENTRY,
    &FIFO_ENTRY,
    &FILE_ENTRY,
    &FILE_LOCK_ENTRY,
    &FILE_PERMS_ENTRY,
    &FOWN_ENTRY,
    &FS_ENTRY,
    &GHOST_CHUNK_ENTRY,
    &GHOST_FILE_ENTRY,
    &IMG_STREAMER_REPLY_ENTRY,
    &IMG_STREAMER_REQUEST_ENTRY,
    &INET_SK_ENTRY,
    &INOTIFY_FILE_ENTRY,
    &INOTIFY_WD_ENTRY,
    &INVENTORY_ENTRY,
    &IP_OPTS_ENTRY,
    &IP_OPTS_RAW_ENTRY,
    &IPC_DESC_ENTRY,
    &IPC_MSG,
    &IPC_MSG_ENTRY,
    &IPC_SEM_ENTRY,
    &IPC_SHM_ENTRY,
    &IPC_VAR_ENTRY,
    &IRMAP_CACHE_ENTRY,
    &ITIMER_ENTRY,
    &MACVLAN_LINK_ENTRY,
    &MEMFD_FILE_ENTRY,
    &MEMFD_INODE_ENTRY,
    &MM_ENTRY,
    &MNT_ENTRY,
    &NET_DEVICE_ENTRY,
    &NETLINK_SK_ENTRY,
    &NETNS_ENTRY,
    &NETNS_ID,
    &NS_FILE_ENTRY,
    &PAC_ADDRESS_KEYS,
    &PAC_GENERIC_KEYS,
    &PAC_KEYS,
    &PACKET_MCLIST,
    &PACKET_RING,
    &PACKET_SOCK_ENTRY,
    &PAGEMAP_BLOCKS,
    &PAGEMAP_ENTRY,
    &PAGEMAP_HEAD,
    &PIDFD_ENTRY,
    &PIDNS_ENTRY,
    &PIPE_DATA_ENTRY,
    &PIPE_ENTRY,
    &PLUGINS_ENTRY,
    &POSIX_TIMER_ENTRY,
    &PSTREE_ENTRY,
    &REG_FILE_ENTRY,
    &REMAP_FILE_PATH_ENTRY,
    &RESTORE_STATS_ENTRY,
    &RLIMIT_ENTRY,
    &RSEQ_ENTRY,
    &SA_ENTRY,
    &SCM_ENTRY,
    &SECCOMP_ENTRY,
    &SECCOMP_FILTER,
    &SIGINFO_ENTRY,
    &SIGNAL_QUEUE_ENTRY,
    &SIGNALFD_ENTRY,
    &SIT_ENTRY,
    &SK_OPTS_ENTRY,
    &SK_PACKET_ENTRY,
    &SK_UCRED_ENTRY,
    &STATS_ENTRY,
    &SYSCTL_ENTRY,
    &TASK_CORE_ENTRY,
    &TASK_KOBJ_IDS_ENTRY,
    &TASK_RLIMITS_ENTRY,
    &TASK_TIMERS_ENTRY,
    &TCP_OPTS_ENTRY,
    &TCP_STREAM_ENTRY,
    &TERMIOS_ENTRY,
    &THREAD_CORE_ENTRY,
    &THREAD_INFO_AARCH64,
    &THREAD_INFO_ARM,
    &THREAD_INFO_LOONGARCH64,
    &THREAD_INFO_MIPS,
    &THREAD_INFO_PPC64,
    &THREAD_INFO_RISCV64,
    &THREAD_INFO_S390,
    &THREAD_INFO_X86,
    &THREAD_SAS_ENTRY,
    &TIMENS_ENTRY,
    &TIMERFD_ENTRY,
    &TIMESPEC,
    &TIMEVAL,
    &TTY_DATA_ENTRY,
    &TTY_FILE_ENTRY,
    &TTY_INFO_ENTRY,
    &TTY_PTY_ENTRY,
    &TUN_LINK_ENTRY,
    &TUNFILE_ENTRY,
    &UID_GID_EXTENT,
    &UNIX_SK_ENTRY,
    &USER_AARCH64_FPSIMD_CONTEXT_ENTRY,
    &USER_AARCH64_GCS_ENTRY,
    &USER_AARCH64_REGS_ENTRY,
    &USER_ARM_REGS_ENTRY,
    &USER_ARM_VFPSTATE_ENTRY,
    &USER_DESC_T,
    &USER_LOONGARCH64_FPREGS_ENTRY,
    &USER_LOONGARCH64_GPREGS_ENTRY,
    &USER_MIPS_FPREGS_ENTRY,
    &USER_MIPS_REGS_ENTRY,
    &USER_PPC64_FPSTATE_ENTRY,
    &USER_PPC64_REGS_ENTRY,
    &USER_PPC64_TM_REGS_ENTRY,
    &USER_PPC64_VRSTATE_ENTRY,
    &USER_PPC64_VSXSTATE_ENTRY,
    &USER_RISCV64_D_EXT_ENTRY,
    &USER_RISCV64_REGS_ENTRY,
    &USER_S390_FPREGS_ENTRY,
    &USER_S390_GS_CB_ENTRY,
    &USER_S390_REGS_ENTRY,
    &USER_S390_RI_ENTRY,
    &USER_S390_VXRS_HIGH_ENTRY,
    &USER_S390_VXRS_LOW_ENTRY,
    &USER_X86_CET_ENTRY,
    &USER_X86_FPREGS_ENTRY,
    &USER_X86_REGS_ENTRY,
    &USER_X86_XSAVE_ENTRY,
    &USERNS_ENTRY,
    &UTSNS_ENTRY,
    &VMA_ENTRY,
    &WINSIZE_ENTRY,
];

/// Shows every type to a test.
#[cfg(test)]
pub(crate) fn visit(visitor: &mut impl super::Visitor) {
    visitor.see::<messages::AaNamespace>();
    visitor.see::<messages::AaPolicy>();
    visitor.see::<messages::AioRingEntry>();
    visitor.see::<messages::ApparmorEntry>();
    visitor.see::<messages::AutofsEntry>();
    visitor.see::<messages::BinfmtMiscEntry>();
    visitor.see::<messages::BpfmapDataEntry>();
    visitor.see::<messages::BpfmapFileEntry>();
    visitor.see::<messages::CgControllerEntry>();
    visitor.see::<messages::CgMemberEntry>();
    visitor.see::<messages::CgSetEntry>();
    visitor.see::<messages::CgroupDirEntry>();
    visitor.see::<messages::CgroupEntry>();
    visitor.see::<messages::CgroupPerms>();
    visitor.see::<messages::CgroupPropEntry>();
    visitor.see::<messages::CoreEntry>();
    visitor.see::<messages::CpuinfoEntry>();
    visitor.see::<messages::CpuinfoPpc64Entry>();
    visitor.see::<messages::CpuinfoS390Entry>();
    visitor.see::<messages::CpuinfoX86Entry>();
    visitor.see::<messages::CredsEntry>();
    visitor.see::<messages::DumpStatsEntry>();
    visitor.see::<messages::EventfdFileEntry>();
    visitor.see::<messages::EventpollFileEntry>();
    visitor.see::<messages::EventpollTfdEntry>();
    visitor.see::<messages::ExtFileEntry>();
    visitor.see::<messages::FanotifyFileEntry>();
    visitor.see::<messages::FanotifyInodeMarkEntry>();
    visitor.see::<messages::FanotifyMarkEntry>();
    visitor.see::<messages::FanotifyMountMarkEntry>();
    visitor.see::<messages::FdinfoEntry>();
    visitor.see::<messages::FhEntry>();
    visitor.see::<messages::FifoEntry>();
    visitor.see::<messages::FileEntry>();
    visitor.see::<messages::FileLockEntry>();
    visitor.see::<messages::FilePermsEntry>();
    visitor.see::<messages::FownEntry>();
    visitor.see::<messages::FsEntry>();
    visitor.see::<messages::GhostChunkEntry>();
    visitor.see::<messages::GhostFileEntry>();
    visitor.see::<messages::ImgStreamerReplyEntry>();
    visitor.see::<messages::ImgStreamerRequestEntry>();
    visitor.see::<messages::InetSkEntry>();
    visitor.see::<messages::InotifyFileEntry>();
    visitor.see::<messages::InotifyWdEntry>();
    visitor.see::<messages::InventoryEntry>();
    visitor.see::<messages::IpOptsEntry>();
    visitor.see::<messages::IpOptsRawEntry>();
    visitor.see::<messages::IpcDescEntry>();
    visitor.see::<messages::IpcMsg>();
    visitor.see::<messages::IpcMsgEntry>();
    visitor.see::<messages::IpcSemEntry>();
    visitor.see::<messages::IpcShmEntry>();
    visitor.see::<messages::IpcVarEntry>();
    visitor.see::<messages::IrmapCacheEntry>();
    visitor.see::<messages::ItimerEntry>();
    visitor.see::<messages::MacvlanLinkEntry>();
    visitor.see::<messages::MemfdFileEntry>();
    visitor.see::<messages::MemfdInodeEntry>();
    visitor.see::<messages::MmEntry>();
    visitor.see::<messages::MntEntry>();
    visitor.see::<messages::NetDeviceEntry>();
    visitor.see::<messages::NetlinkSkEntry>();
    visitor.see::<messages::NetnsEntry>();
    visitor.see::<messages::NetnsId>();
    visitor.see::<messages::NsFileEntry>();
    visitor.see::<messages::PacAddressKeys>();
    visitor.see::<messages::PacGenericKeys>();
    visitor.see::<messages::PacKeys>();
    visitor.see::<messages::PacketMclist>();
    visitor.see::<messages::PacketRing>();
    visitor.see::<messages::PacketSockEntry>();
    visitor.see::<messages::PagemapBlocks>();
    visitor.see::<messages::PagemapEntry>();
    visitor.see::<messages::PagemapHead>();
    visitor.see::<messages::PidfdEntry>();
    visitor.see::<messages::PidnsEntry>();
    visitor.see::<messages::PipeDataEntry>();
    visitor.see::<messages::PipeEntry>();
    visitor.see::<messages::PluginsEntry>();
    visitor.see::<messages::PosixTimerEntry>();
    visitor.see::<messages::PstreeEntry>();
    visitor.see::<messages::RegFileEntry>();
    visitor.see::<messages::RemapFilePathEntry>();
    visitor.see::<messages::RestoreStatsEntry>();
    visitor.see::<messages::RlimitEntry>();
    visitor.see::<messages::RseqEntry>();
    visitor.see::<messages::SaEntry>();
    visitor.see::<messages::ScmEntry>();
    visitor.see::<messages::SeccompEntry>();
    visitor.see::<messages::SeccompFilter>();
    visitor.see::<messages::SiginfoEntry>();
    visitor.see::<messages::SignalQueueEntry>();
    visitor.see::<messages::SignalfdEntry>();
    visitor.see::<messages::SitEntry>();
    visitor.see::<messages::SkOptsEntry>();
    visitor.see::<messages::SkPacketEntry>();
    visitor.see::<messages::SkUcredEntry>();
    visitor.see::<messages::StatsEntry>();
    visitor.see::<messages::SysctlEntry>();
    visitor.see::<messages::TaskCoreEntry>();
    visitor.see::<messages::TaskKobjIdsEntry>();
    visitor.see::<messages::TaskRlimitsEntry>();
    visitor.see::<messages::TaskTimersEntry>();
    visitor.see::<messages::TcpOptsEntry>();
    visitor.see::<messages::TcpStreamEntry>();
    visitor.see::<messages::TermiosEntry>();
    visitor.see::<messages::ThreadCoreEntry>();
    visitor.see::<messages::ThreadInfoAarch64>();
    visitor.see::<messages::ThreadInfoArm>();
    visitor.see::<messages::ThreadInfoLoongarch64>();
    visitor.see::<messages::ThreadInfoMips>();
    visitor.see::<messages::ThreadInfoPpc64>();
    visitor.see::<messages::ThreadInfoRiscv64>();
    visitor.see::<messages::ThreadInfoS390>();
    visitor.see::<messages::ThreadInfoX86>();
    visitor.see::<messages::ThreadSasEntry>();
    visitor.see::<messages::TimensEntry>();
    visitor.see::<messages::TimerfdEntry>();
    visitor.see::<messages::Timespec>();
    visitor.see::<messages::Timeval>();
    visitor.see::<messages::TtyDataEntry>();
    visitor.see::<messages::TtyFileEntry>();
    visitor.see::<messages::TtyInfoEntry>();
    visitor.see::<messages::TtyPtyEntry>();
    visitor.see::<messages::TunLinkEntry>();
    visitor.see::<messages::TunfileEntry>();
    visitor.see::<messages::UidGidExtent>();
    visitor.see::<messages::UnixSkEntry>();
    visitor.see::<messages::UserAarch64FpsimdContextEntry>();
    visitor.see::<messages::UserAarch64GcsEntry>();
    visitor.see::<messages::UserAarch64RegsEntry>();
    visitor.see::<messages::UserArmRegsEntry>();
    visitor.see::<messages::UserArmVfpstateEntry>();
    visitor.see::<messages::UserDescT>();
    visitor.see::<messages::UserLoongarch64FpregsEntry>();
    visitor.see::<messages::UserLoongarch64GpregsEntry>();
    visitor.see::<messages::UserMipsFpregsEntry>();
    visitor.see::<messages::UserMipsRegsEntry>();
    visitor.see::<messages::UserPpc64FpstateEntry>();
    visitor.see::<messages::UserPpc64RegsEntry>();
    visitor.see::<messages::UserPpc64TmRegsEntry>();
    visitor.see::<messages::UserPpc64VrstateEntry>();
    visitor.see::<messages::UserPpc64VsxstateEntry>();
    visitor.see::<messages::UserRiscv64DExtEntry>();
    visitor.see::<messages::UserRiscv64RegsEntry>();
    visitor.see::<messages::UserS390FpregsEntry>();
    visitor.see::<messages::UserS390GsCbEntry>();
    visitor.see::<messages::UserS390RegsEntry>();
    visitor.see::<messages::UserS390RiEntry>();
    visitor.see::<messages::UserS390VxrsHighEntry>();
    visitor.see::<messages::UserS390VxrsLowEntry>();
    visitor.see::<messages::UserX86CetEntry>();
    visitor.see::<messages::UserX86FpregsEntry>();
    visitor.see::<messages::UserX86RegsEntry>();
    visitor.see::<messages::UserX86XsaveEntry>();
    visitor.see::<messages::UsernsEntry>();
    visitor.see::<messages::UtsnsEntry>();
    visitor.see::<messages::VmaEntry>();
    visitor.see::<messages::WinsizeEntry>();
}
