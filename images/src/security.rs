//! Credentials: capabilities, secure bits and the label, by name.

use crate::caps::Capabilities;
use crate::proto::CredsEntry;
use crate::text::Text;

impl CredsEntry {
    /// The capabilities it acts with.
    ///
    /// ```
    /// use criu_images::ImageSet;
    ///
    /// let set = ImageSet::open("tests/data/pipeline")?;
    /// let root = set.checkpoint()?.root();
    /// let creds = root.creds().expect("it is alive");
    /// println!("user {}, effective {}", creds.euid, creds.effective());
    /// # Ok::<(), criu_images::Error>(())
    /// ```
    pub fn effective(&self) -> Capabilities {
        Capabilities::from_words(&self.cap_eff)
    }

    /// The capabilities it may act with.
    pub fn permitted(&self) -> Capabilities {
        Capabilities::from_words(&self.cap_prm)
    }

    /// The capabilities that it keeps at execve(2) if the program's file says so.
    pub fn inheritable(&self) -> Capabilities {
        Capabilities::from_words(&self.cap_inh)
    }

    /// The capabilities that it can ever get.
    pub fn bounding(&self) -> Capabilities {
        Capabilities::from_words(&self.cap_bnd)
    }

    /// The capabilities that it keeps at execve(2) whatever the program's file says.
    pub fn ambient(&self) -> Capabilities {
        Capabilities::from_words(&self.cap_amb)
    }

    /// Its secure bits by name, `SECBIT_` left out.
    pub fn secure_bits(&self) -> impl Iterator<Item = &'static str> {
        let bits = self.secbits;
        let named = SECURE_BITS.into_iter().enumerate();
        named.filter(move |(bit, _)| bits >> bit & 1 != 0).map(|(_, name)| name)
    }

    /// Its AppArmor profile or SELinux context. None when it was unconfined, or when the CRIU that made the
    /// dump was built without SELinux: such a one says nothing.
    pub fn label(&self) -> Option<Text<'_>> {
        self.lsm_profile.as_deref().map(Text)
    }
}

/// By number.
const SECURE_BITS: [&str; 8] = [
    "NOROOT",
    "NOROOT_LOCKED",
    "NO_SETUID_FIXUP",
    "NO_SETUID_FIXUP_LOCKED",
    "KEEP_CAPS",
    "KEEP_CAPS_LOCKED",
    "NO_CAP_AMBIENT_RAISE",
    "NO_CAP_AMBIENT_RAISE_LOCKED",
];
