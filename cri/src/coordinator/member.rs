//! A dump or restore that takes part in a distributed job.

use std::fs::File;

use criu_rs::{Cancel, HookResult, Hooks, Pid, PodHooks};

use super::client::{Client, Held};
use super::error::CoordinatorError;
use super::message::{Request, What, check_id};
use super::step::Step;
use crate::hold;

/// A member of a distributed job: hooks of a dump, a restore or a pod that ask the coordinator at
/// each step, and let CRIU go on when all members may.
///
/// If the coordinator refuses, cannot be reached or does not answer in time, the hook fails: a dump
/// leaves its processes running and no checkpoint, and a restore leaves nothing. Dropping a member
/// before its operation is over fails the job of the others at once.
///
/// ```no_run
/// use criu_cri::coordinator::{Client, Member};
/// use criu_rs::{Criu, Dump};
///
/// let client = Client::new("127.0.0.1:8080");
/// let mut member = Member::new(client, "rank-0", ["rank-1", "rank-2"])?;
/// Dump::new("4711".parse()?, "/ckpt/rank-0").run_with(&Criu::new(), &mut member)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// As the hooks of a pod all of the pod's containers are one member. The pod's containers are
/// frozen when the first hook is called: [`join_dump`](Self::join_dump) waits for the other members
/// before that.
#[derive(Debug)]
pub struct Member {
    client: Client,
    id: String,
    needs: Vec<String>,
    held: Option<Held>,
    /// The last step that all members have come to.
    passed: Option<Step>,
    network: Option<Network>,
}

/// The network of a restore.
#[derive(Debug)]
struct Network {
    file: File,
    is_shut: bool,
}

impl Member {
    /// A member with an id of its own, which waits for the members with the ids in `needs`. Without
    /// any, the coordinator's own dependencies hold.
    ///
    /// # Errors
    /// [`CoordinatorError::Invalid`] for an id that is empty, too long, or has a colon or a control
    /// character.
    pub fn new<N: Into<String>>(
        client: Client,
        id: impl Into<String>,
        needs: impl IntoIterator<Item = N>,
    ) -> Result<Self, CoordinatorError> {
        let (id, needs) = (id.into(), needs.into_iter().map(Into::into).collect::<Vec<String>>());
        [&id].into_iter().chain(&needs).try_for_each(|id| check_id(id)).map_err(invalid)?;
        Ok(Self { client, id, needs, held: None, passed: None, network: None })
    }

    /// Returns the member's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the last step that all members have come to, or `None` before the first.
    pub fn passed(&self) -> Option<Step> {
        self.passed
    }

    /// Ends a wait when `cancel` is cancelled.
    #[must_use]
    pub fn cancel(mut self, cancel: &Cancel) -> Self {
        self.client = self.client.clone().cancel(cancel);
        self
    }

    /// Shuts a network namespace, such as `/run/netns/blue`, from a restore's beginning until all
    /// members are restored: nothing comes in or goes out.
    ///
    /// A restore sends data of its TCP connections that had not been sent when they were saved. A
    /// node on which the other end is not restored yet would reset the connection. The network is
    /// one that the tasks are restored into, and in which no other process needs connections. After
    /// a `kill -9` of this process `nft delete table inet criu_coordinator_shut` opens it.
    #[must_use]
    pub fn shut_network(mut self, network: File) -> Self {
        self.network = Some(Network { file: network, is_shut: false });
        self
    }

    /// Registers for a dump, and waits until all members have. The hook pre-dump does so unless it
    /// has been done.
    ///
    /// # Errors
    /// [`CoordinatorError`].
    pub fn join_dump(&mut self) -> Result<(), CoordinatorError> {
        // A dump that is repeated without the freezer comes here again. The others wait for it.
        if self.held.is_some() && self.passed.is_some_and(|step| step < Step::PostDump) {
            return Ok(());
        }
        self.join(Step::PreDump)
    }

    /// Registers for a restore, and waits until all members have. The hook pre-restore does so
    /// unless it has been done.
    ///
    /// # Errors
    /// [`CoordinatorError`].
    pub fn join_restore(&mut self) -> Result<(), CoordinatorError> {
        if self.held.is_some() && self.passed == Some(Step::PreRestore) {
            return Ok(());
        }
        if let Some(network) = &mut self.network {
            hold::shut(&network.file, TABLE)
                .map_err(CoordinatorError::system("shut the network"))?;
            network.is_shut = true;
        }
        self.join(Step::PreRestore)
    }

    fn join(&mut self, step: Step) -> Result<(), CoordinatorError> {
        self.held = None;
        self.passed = None;
        let needs = self.needs.clone();
        let request = Request { id: self.id.clone(), what: What::Step { step, needs, hold: true } };
        self.held = self.client.ask(&request)?;
        self.passed = Some(step);
        Ok(())
    }

    /// Comes to a step after the first, unless all members have passed it.
    fn come(&mut self, step: Step) -> Result<(), CoordinatorError> {
        let passed = self.passed.ok_or(CoordinatorError::Order(step))?;
        if passed.is_of_dump() != step.is_of_dump() {
            return Err(CoordinatorError::Order(step));
        }
        if passed < step {
            self.client.step(&self.id, step, &self.needs)?;
            self.passed = Some(step);
        }
        if step == Step::NetworkUnlock {
            self.open_network()?;
        }
        if matches!(step, Step::PostDump | Step::PostResume) {
            self.held = None;
        }
        Ok(())
    }

    fn open_network(&mut self) -> Result<(), CoordinatorError> {
        if let Some(network) = self.network.as_mut().filter(|network| network.is_shut) {
            hold::open(&network.file, TABLE)
                .map_err(CoordinatorError::system("open the network"))?;
            network.is_shut = false;
        }
        Ok(())
    }

    fn is_dump(&self) -> bool {
        self.passed.is_some_and(Step::is_of_dump)
    }
}

impl Hooks for Member {
    fn pre_dump(&mut self) -> HookResult {
        Ok(self.join_dump()?)
    }

    fn network_lock(&mut self) -> HookResult {
        Ok(self.come(Step::NetworkLock)?)
    }

    fn post_dump(&mut self) -> HookResult {
        Ok(self.come(Step::PostDump)?)
    }

    fn pre_restore(&mut self) -> HookResult {
        Ok(self.join_restore()?)
    }

    fn post_restore(&mut self, _root: Pid) -> HookResult {
        Ok(self.come(Step::PostRestore)?)
    }

    /// Waits for the others in a restore. After a dump all have been saved, and each goes on.
    fn network_unlock(&mut self) -> HookResult {
        if self.is_dump() {
            return Ok(());
        }
        Ok(self.come(Step::NetworkUnlock)?)
    }

    fn post_resume(&mut self) -> HookResult {
        Ok(self.come(Step::PostResume)?)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // Nobody could be told of an error.
        let _ = self.open_network();
    }
}

impl PodHooks for Member {
    fn frozen(&mut self) -> HookResult {
        self.join_dump()?;
        Ok(self.come(Step::NetworkLock)?)
    }

    fn saved(&mut self) -> HookResult {
        Ok(self.come(Step::PostDump)?)
    }

    fn restored(&mut self) -> HookResult {
        self.join_restore()?;
        self.come(Step::PostRestore)?;
        self.come(Step::NetworkUnlock)?;
        Ok(self.come(Step::PostResume)?)
    }
}

fn invalid(why: String) -> CoordinatorError {
    CoordinatorError::Invalid(why)
}

/// Table that shuts the network of a restore. A pod has one of another name.
const TABLE: &str = "criu_coordinator_shut";
