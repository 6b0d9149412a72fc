//! The machines of each host type, by what can be done with them. All operations are logarithmic.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use types::{HostType, LeaseId, MachineName, Timestamp};

use super::{Lease, Machine, Role};

/// In which order batch work makes room: helpers first, since nothing but their shard is lost, then the youngest.
type Victim = (u8, Reverse<Timestamp>, LeaseId);

/// The machines that serve one host type.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Yard {
    /// All that have been heard of.
    known: BTreeSet<MachineName>,
    /// Connected.
    connected: BTreeSet<MachineName>,
    /// Connected, and would take a lease if they had none.
    fit: BTreeSet<MachineName>,
    /// Fit and free, by work folder.
    idle: BTreeMap<String, BTreeSet<MachineName>>,
    /// Fit and being cleaned.
    cleaning: BTreeSet<MachineName>,
    /// Leases that make room for what is urgent.
    victims: BTreeSet<Victim>,
    /// How long a build lately kept its main machine, in microseconds.
    pace: Option<u64>,
}

/// All machines, by host type.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Fleet {
    yards: BTreeMap<HostType, Yard>,
}

fn victim(lease: &Lease) -> Victim {
    (u8::from(lease.role == Role::Main), Reverse(lease.granted), lease.id)
}

impl Fleet {
    /// Brings the sets in line with a machine.
    pub(super) fn set(&mut self, machine: &Machine) {
        let name = &machine.info.name;
        let put = |set: &mut BTreeSet<MachineName>, belongs: bool| {
            if belongs {
                set.insert(name.clone());
            } else {
                set.remove(name);
            }
        };
        for host in &machine.info.host_types {
            let yard = self.yards.entry(host.clone()).or_default();
            yard.known.insert(name.clone());
            put(&mut yard.connected, machine.connection.is_some());
            put(&mut yard.fit, machine.is_fit());
            put(
                &mut yard.cleaning,
                machine.is_fit() && machine.lease.is_none() && machine.cleaning.is_some(),
            );
            yard.set_idle(machine, machine.is_idle());
        }
    }

    /// A machine serves other host types from now on, or none.
    pub(super) fn remove(&mut self, machine: &Machine) {
        for host in &machine.info.host_types {
            let Some(yard) = self.yards.get_mut(host) else { continue };
            for set in [&mut yard.known, &mut yard.connected, &mut yard.fit, &mut yard.cleaning] {
                set.remove(&machine.info.name);
            }
            yard.set_idle(machine, false);
        }
    }

    /// A lease that makes room if need be.
    pub(super) fn offer(&mut self, host: &HostType, lease: &Lease) {
        self.yards.entry(host.clone()).or_default().victims.insert(victim(lease));
    }

    /// A lease is over. A main one tells how long machines are kept.
    pub(super) fn ended(&mut self, host: &HostType, lease: &Lease, now: Timestamp) {
        let yard = self.yards.entry(host.clone()).or_default();
        yard.victims.remove(&victim(lease));
        if lease.role == Role::Main {
            let took = now.since(lease.granted).as_micros() as u64;
            yard.pace = Some(yard.pace.map_or(took, |pace| (pace * 7 + took) / 8));
        }
    }

    /// Leases that make room, the first first.
    pub(super) fn victims(&self, host: &HostType) -> impl Iterator<Item = LeaseId> + '_ {
        self.yards.get(host).into_iter().flat_map(|yard| yard.victims.iter().map(|(.., id)| *id))
    }

    /// A free machine.
    pub(super) fn first_idle(&self, host: &HostType) -> Option<&MachineName> {
        self.yards.get(host)?.idle.values().next()?.first()
    }

    /// Two free machines for each work folder: one of them may be where a shard has just failed.
    pub(super) fn idle_by_folder(&self, host: &HostType) -> impl Iterator<Item = &MachineName> {
        self.yards
            .get(host)
            .into_iter()
            .flat_map(|yard| yard.idle.values().flat_map(|idle| idle.iter().take(2)))
    }

    /// Whether a machine is among the free ones.
    pub(super) fn is_idle(&self, host: &HostType, machine: &Machine) -> bool {
        self.yards
            .get(host)
            .and_then(|yard| yard.idle.get(&machine.info.work_folder))
            .is_some_and(|idle| idle.contains(&machine.info.name))
    }

    /// How many machines are free, or will be as soon as they are clean.
    pub(super) fn coming(&self, host: &HostType) -> usize {
        self.yards
            .get(host)
            .map_or(0, |yard| yard.cleaning.len() + yard.idle.values().map(BTreeSet::len).sum::<usize>())
    }

    /// All machines that serve a host type.
    pub(super) fn known(&self, host: &HostType) -> impl Iterator<Item = &MachineName> {
        self.yards.get(host).into_iter().flat_map(|yard| &yard.known)
    }

    /// Those that are connected.
    pub(super) fn connected(&self, host: &HostType) -> impl ExactSizeIterator<Item = &MachineName> {
        static NONE: BTreeSet<MachineName> = BTreeSet::new();
        self.yards.get(host).map_or(&NONE, |yard| &yard.connected).iter()
    }

    /// How many would take a lease if they had none.
    pub(super) fn fit(&self, host: &HostType) -> usize {
        self.yards.get(host).map_or(0, |yard| yard.fit.len())
    }

    /// How long until a machine is given to a build with so many ahead of it, as machines lately were kept.
    pub(super) fn estimate(&self, host: &HostType, ahead: usize) -> Option<Duration> {
        let yard = self.yards.get(host)?;
        let machines = yard.fit.len() as u64;
        let micros = yard.pace?.saturating_mul(ahead as u64 + 1).checked_div(machines)?;
        Some(Duration::from_micros(micros))
    }
}

impl Yard {
    fn set_idle(&mut self, machine: &Machine, idle: bool) {
        let folder = &machine.info.work_folder;
        if idle {
            self.idle.entry(folder.clone()).or_default().insert(machine.info.name.clone());
        } else if let Some(names) = self.idle.get_mut(folder) {
            names.remove(&machine.info.name);
            if names.is_empty() {
                self.idle.remove(folder);
            }
        }
    }
}
