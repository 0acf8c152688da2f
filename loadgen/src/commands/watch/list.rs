//! `loadgen watch --list`: every listener of the namespace, the fullest first.

use std::io;
use std::path::Path;

use uring_echo::sys::procfs::somaxconn;

use super::{WatchError, json_alone};
use crate::analyse;
use crate::model::watch::{LimitedBy, ListedListener, ListedOwner};
use crate::observe::{Listener, ListenerTable};
use crate::render::output::{self, Output};
use crate::render::{findings, terminal};
use crate::sys::processes::{Owner, socket_owners};

/// Prints the list as text or as JSON.
pub(super) fn print(json: Option<&Path>) -> Result<(), WatchError> {
    let file = json.filter(|_| !json_alone(json)).map(Output::open).transpose()?;
    let listed = listed().map_err(WatchError::SocketTable)?;
    let text = serde_json::to_string_pretty(&listed).expect("plain data") + "\n";
    if json_alone(json) {
        return Ok(output::print(&text)?);
    }
    output::print(&terminal::listeners(&listed, output::style_of_stdout()))?;
    if let Some(file) = file {
        file.write(&text)?;
    }
    Ok(())
}

fn listed() -> io::Result<Vec<ListedListener>> {
    let listeners = ListenerTable::open()?.all()?;
    let inodes: Vec<u32> = listeners.iter().map(|listener| listener.inode.0).collect();
    let owners = socket_owners(&inodes)?;
    let owners_of = |listener: &Listener| owners.get(&listener.inode.0).map_or(&[][..], |o| o);
    let somaxconn = somaxconn();
    let mut listed: Vec<_> = listeners.iter().map(|one| described(one, owners_of(one))).collect();
    for (one, listener) in listed.iter_mut().zip(&listeners) {
        let same = |other: &&Listener| other.addr == listener.addr;
        one.listeners = listeners.iter().filter(same).count();
        one.limited_by = somaxconn.map(|somaxconn| LimitedBy::of(one.limit, somaxconn));
        one.advice = analyse::watch::listed(one, somaxconn).as_ref().map(findings::advice);
    }
    listed.sort_by(|a, b| {
        let fuller = b.fullness.total_cmp(&a.fullness);
        fuller.then(b.drops.cmp(&a.drops)).then_with(|| a.addr.cmp(&b.addr))
    });
    Ok(listed)
}

fn described(listener: &Listener, owners: &[Owner]) -> ListedListener {
    let owner = |owner: &Owner| ListedOwner { pid: owner.pid, name: owner.name.clone() };
    ListedListener {
        addr: listener.addr.to_string(),
        inode: listener.inode.0,
        uid: listener.uid,
        owners: owners.iter().map(owner).collect(),
        depth: listener.depth,
        limit: listener.limit,
        fullness: ListedListener::fullness(listener.depth, listener.limit),
        drops: listener.drops,
        listeners: 1,
        limited_by: None,
        advice: None,
    }
}
