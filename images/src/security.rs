//! Credentials: capabilities, secure bits and the label, by name.

use crate::caps::Capabilities;
use crate::proto::CredsEntry;
use crate::text::Text;

impl CredsEntry {
    /// Effective capabilities.
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

    /// Permitted capabilities, which the thread may make effective.
    pub fn permitted(&self) -> Capabilities {
        Capabilities::from_words(&self.cap_prm)
    }

    /// Inheritable capabilities, kept at execve(2) if the file of the program says so.
    pub fn inheritable(&self) -> Capabilities {
        Capabilities::from_words(&self.cap_inh)
    }

    /// The bounding set: capabilities that the thread can ever gain.
    pub fn bounding(&self) -> Capabilities {
        Capabilities::from_words(&self.cap_bnd)
    }

    /// Ambient capabilities, kept at execve(2) whatever the file of the program says.
    pub fn ambient(&self) -> Capabilities {
        Capabilities::from_words(&self.cap_amb)
    }

    /// Names of the secure bits, without `SECBIT_`.
    pub fn secure_bits(&self) -> impl Iterator<Item = &'static str> {
        let bits = self.secbits;
        let named = SECURE_BITS.into_iter().enumerate();
        named.filter(move |(bit, _)| bits >> bit & 1 != 0).map(|(_, name)| name)
    }

    /// The AppArmor profile or SELinux context. `None` if the thread was unconfined. Also `None` if
    /// the CRIU that made the dump was built without SELinux: it saves no context.
    pub fn label(&self) -> Option<Text<'_>> {
        self.lsm_profile.as_deref().map(Text)
    }
}

/// Names by number.
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
