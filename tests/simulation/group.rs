//! The group coordinator, classic protocol with cooperative assignments and static members.

use std::collections::{BTreeMap, BTreeSet};

use meterd::engine::Ms;

use super::broker::Refused;

pub const SESSION_TIMEOUT_MS: i64 = 10_000;
const REBALANCE_TIMEOUT_MS: i64 = 60_000;

#[derive(Default)]
pub struct Group {
    partitions: i32,
    pub generation: i32,
    members: BTreeMap<String, Member>,
    /// Member ids of static members.
    instances: BTreeMap<String, String>,
    /// Since when members are joining again.
    preparing: Option<Ms>,
    named: u64,
    /// Rotates the assignment when a rebalance is to move partitions.
    pub turn: usize,
}

#[derive(Default)]
struct Member {
    instance: Option<String>,
    heard: Ms,
    joined: bool,
    /// What it says that it owns.
    owned: BTreeSet<i32>,
    assigned: BTreeSet<i32>,
    /// An answer to a join that was not fetched yet.
    answer: bool,
}

/// How a join stands.
pub enum Join {
    Pending,
    /// It was over, and the next rebalance has begun before the assignment was fetched.
    Again {
        generation: i32,
    },
    Done {
        generation: i32,
        assigned: BTreeSet<i32>,
    },
}

impl Group {
    pub fn new(partitions: i32) -> Group {
        Group { partitions, ..Group::default() }
    }

    /// What TxnOffsetCommit checks.
    pub fn check(&self, (id, generation, instance): (&str, i32, Option<&str>)) -> Result<(), Refused> {
        if id.is_empty() && generation < 0 && instance.is_none() {
            return Ok(());
        }
        if let Some(known) = instance.and_then(|instance| self.instances.get(instance))
            && known != id
        {
            return Err(Refused::FencedInstance);
        }
        if !self.members.contains_key(id) {
            return Err(Refused::UnknownMember);
        }
        if generation != self.generation {
            return Err(Refused::IllegalGeneration);
        }
        Ok(())
    }

    /// JoinGroup; the answer comes by [`Group::poll`]. Gives the member's id.
    pub fn join(
        &mut self,
        id: &str,
        instance: Option<&str>,
        owned: BTreeSet<i32>,
        now: Ms,
        keeps: bool,
    ) -> Result<String, Refused> {
        if let Some(known) = instance.and_then(|instance| self.instances.get(instance)).cloned()
            && known != id
        {
            if !id.is_empty() {
                return Err(Refused::FencedInstance);
            }
            // Between two rebalances of a move a partition has no owner, and only another rebalance gives it one.
            let given: usize = self.members.values().map(|member| member.assigned.len()).sum();
            let keeps = keeps && given == self.partitions as usize;
            // A new process of a static member takes the place of the old one, at once where nothing else changes.
            let fresh = self.name();
            let mut member = self.members.remove(&known).unwrap_or_default();
            self.instances.insert(instance.unwrap_or_default().to_owned(), fresh.clone());
            member.heard = now;
            member.owned = owned;
            member.joined = self.preparing.is_some();
            member.answer = self.preparing.is_none() && keeps;
            let rebalance = self.preparing.is_none() && !keeps;
            self.members.insert(fresh.clone(), member);
            if rebalance {
                self.prepare(now, &fresh);
            }
            return Ok(fresh);
        }
        let known = !id.is_empty();
        let id = if known { id.to_owned() } else { self.name() };
        if !known {
            let member = Member { instance: instance.map(str::to_owned), ..Member::default() };
            self.members.insert(id.clone(), member);
            if let Some(instance) = instance {
                self.instances.insert(instance.to_owned(), id.clone());
            }
        }
        let Some(member) = self.members.get_mut(&id) else { return Err(Refused::UnknownMember) };
        member.heard = now;
        member.owned = owned;
        member.joined = true;
        member.answer = false;
        self.prepare(now, &id);
        Ok(id)
    }

    pub fn poll(&mut self, id: &str) -> Result<Join, Refused> {
        let generation = self.generation;
        let Some(member) = self.members.get_mut(id) else { return Err(Refused::UnknownMember) };
        if !member.answer {
            return Ok(if member.joined { Join::Pending } else { Join::Again { generation } });
        }
        member.answer = false;
        Ok(Join::Done { generation, assigned: member.assigned.clone() })
    }

    /// True: the member must join again.
    pub fn heartbeat(&mut self, id: &str, instance: Option<&str>, generation: i32, now: Ms) -> Result<bool, Refused> {
        if let Some(known) = instance.and_then(|instance| self.instances.get(instance))
            && known != id
        {
            return Err(Refused::FencedInstance);
        }
        let Some(member) = self.members.get_mut(id) else { return Err(Refused::UnknownMember) };
        member.heard = now;
        if self.preparing.is_some() {
            return Ok(true);
        }
        if generation != self.generation { Err(Refused::IllegalGeneration) } else { Ok(false) }
    }

    pub fn leave(&mut self, id: &str, now: Ms) {
        if self.remove(id) {
            self.prepare(now, "");
        }
    }

    /// Everybody is to join again, as after a change of the subscription.
    pub fn disturb(&mut self, now: Ms) {
        if !self.members.is_empty() {
            self.prepare(now, "");
        }
    }

    /// Nobody is joining, and each partition is somebody's: after a member gave one up another round follows.
    pub fn is_stable(&self) -> bool {
        let assigned: usize = self.members.values().map(|member| member.assigned.len()).sum();
        self.preparing.is_none() && assigned == self.partitions as usize
    }

    pub fn members(&self) -> usize {
        self.members.len()
    }

    pub fn pass(&mut self, now: Ms) {
        let silent = |member: &Member| member.heard + SESSION_TIMEOUT_MS < now && !member.joined;
        let gone: Vec<String> =
            self.members.iter().filter(|(_, member)| silent(member)).map(|(id, _)| id.clone()).collect();
        for id in &gone {
            self.remove(id);
        }
        if !gone.is_empty() {
            self.prepare(now, "");
        }
        let Some(since) = self.preparing else { return };
        if since + REBALANCE_TIMEOUT_MS < now {
            let late: Vec<String> =
                self.members.iter().filter(|(_, member)| !member.joined).map(|(id, _)| id.clone()).collect();
            for id in late {
                self.remove(&id);
            }
        }
        if self.members.values().all(|member| member.joined) {
            self.complete(now);
        }
    }

    fn name(&mut self) -> String {
        self.named += 1;
        format!("member-{}", self.named)
    }

    fn remove(&mut self, id: &str) -> bool {
        let Some(member) = self.members.remove(id) else { return false };
        if let Some(instance) = member.instance {
            self.instances.remove(&instance);
        }
        true
    }

    fn prepare(&mut self, now: Ms, joined: &str) {
        if self.preparing.is_none() {
            self.preparing = Some(now);
            for (id, member) in &mut self.members {
                member.joined = id == joined;
                member.answer = false;
            }
        }
    }

    /// All have joined: partitions stay where they are as far as the shares are even; one that moves is first taken from
    /// its owner, and given away by the rebalance that follows.
    fn complete(&mut self, now: Ms) {
        self.preparing = None;
        self.generation += 1;
        let ids: Vec<String> = self.members.keys().cloned().collect();
        if ids.is_empty() {
            return;
        }
        let most = (self.partitions as usize).div_ceil(ids.len());
        let mut target: BTreeMap<&str, BTreeSet<i32>> = ids.iter().map(|id| (id.as_str(), BTreeSet::new())).collect();
        let mut free: Vec<i32> = Vec::new();
        for partition in 0..self.partitions {
            let owner = ids.iter().find(|id| self.members[*id].owned.contains(&partition));
            match owner {
                Some(id) if target[id.as_str()].len() < most && self.turn == 0 => {
                    target.get_mut(id.as_str()).expect("a member").insert(partition);
                }
                _ => free.push(partition),
            }
        }
        for partition in free {
            let least = (0..ids.len()).min_by_key(|at| {
                let id = ids[(at + self.turn) % ids.len()].as_str();
                (target[id].len(), *at)
            });
            let id = ids[(least.expect("there are members") + self.turn) % ids.len()].as_str();
            target.get_mut(id).expect("a member").insert(partition);
        }
        let owners: BTreeMap<i32, String> = self
            .members
            .iter()
            .flat_map(|(id, member)| member.owned.iter().map(|partition| (*partition, id.clone())))
            .collect();
        for id in &ids {
            let given = target[id.as_str()].iter().copied();
            let assigned = given.filter(|partition| owners.get(partition).is_none_or(|owner| owner == id)).collect();
            let member = self.members.get_mut(id).expect("a member");
            member.assigned = assigned;
            member.answer = true;
            member.joined = false;
            member.heard = now;
        }
        self.turn = 0;
    }
}
