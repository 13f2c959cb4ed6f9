//! The mutants: what is made wrong in each, and which of the suite's commands has to notice.

/// One way to make the product wrong.
pub struct Mutant {
    /// What is wrong.
    pub name: &'static str,
    /// Files, with a text of each and what stands in its place. Every text stands in its file exactly once.
    pub edits: &'static [(&'static str, &'static str, &'static str)],
    /// What comes after `cargo test --package tokenscope`: this fails.
    pub command: &'static [&'static str],
}

const STORE: &[&str] = &["--lib", "store::"];
const JOURNAL: &[&str] = &["--lib", "journal::"];
const SNAPSHOT: &[&str] = &["--lib", "snapshot::"];
const RULE: &[&str] = &["--lib", "domain::"];
const NEAR: &[&str] = &["--lib", "near::"];
const FEED: &[&str] = &["--lib", "feed::"];
const INDEX: &[&str] = &["--lib", "index::"];
const CACHES: &[&str] = &["--test", "it", "caches::"];

const WRITER: &str = "src/store/writer.rs";
const RECOVERY: &str = "src/store/recovery.rs";
const ACCESS: &str = "src/domain/access.rs";

/// All of them. Not among them: a snapshot ahead of the journal that is not refused by the recovery. The journal refuses to be
/// read from beyond its end, so that mutant is none.
pub const MUTANTS: &[Mutant] = &[
    // ---- what is acknowledged is durable ----
    Mutant {
        name: "the journal does not sync",
        edits: &[(
            "src/journal/redb.rs",
            "writing.set_durability(Durability::Immediate)?;",
            "writing.set_durability(Durability::None)?;",
        )],
        command: JOURNAL,
    },
    Mutant {
        name: "the journal's name is not synced",
        edits: &[(
            "src/journal/file.rs",
            "        self.disk.sync_dir(directory)\n",
            "        let _ = directory;\n        Ok(())\n",
        )],
        command: &["--test", "crash"],
    },
    Mutant {
        name: "a snapshot is not synced before its rename",
        edits: &[("src/disk.rs", "            self.file.sync().map_err(DiskError::io(\"sync\", &self.path))?;\n", "")],
        command: SNAPSHOT,
    },
    Mutant {
        name: "index before journal",
        edits: &[(
            WRITER,
            "        let committed = self.journal.commit(&entries);\n",
            "        entries.iter().for_each(|entry| self.index.apply(entry));\n        \
             let committed = self.journal.commit(&entries);\n",
        )],
        command: STORE,
    },
    Mutant {
        name: "feed before index",
        edits: &[
            (
                WRITER,
                "        for entry in &entries {\n            stats.changes[kind",
                "        self.shared.feed.publish(&entries);\n        \
                 for entry in &entries {\n            stats.changes[kind",
            ),
            (
                WRITER,
                "        // Between index and receipts, see the head of this file.\n        \
                 self.shared.feed.publish(&entries);\n",
                "",
            ),
        ],
        command: STORE,
    },
    Mutant {
        name: "receipts before feed",
        edits: &[
            (
                WRITER,
                "        // Between index and receipts, see the head of this file.\n        \
                 self.shared.feed.publish(&entries);\n",
                "",
            ),
            (
                WRITER,
                "            reply.lay(Ok(Committed { sequence: entry.sequence, grant }), &mut bell);\n        }\n",
                "            reply.lay(Ok(Committed { sequence: entry.sequence, grant }), &mut bell);\n        }\n        \
                 drop(bell);\n        self.shared.feed.publish(&entries);\n",
            ),
        ],
        command: STORE,
    },
    Mutant {
        name: "receipts before journal",
        edits: &[(
            WRITER,
            "        let committed = self.journal.commit(&entries);\n",
            "        let replies: Vec<(Reply, Option<GrantId>)> = {\n            let mut bell = Bell::default();\n            \
             for (entry, (reply, grant)) in entries.iter().zip(replies) {\n                \
             reply.lay(Ok(Committed { sequence: entry.sequence, grant }), &mut bell);\n            }\n            \
             Vec::new()\n        };\n        let committed = self.journal.commit(&entries);\n",
        )],
        command: STORE,
    },
    Mutant {
        name: "a failed commit is taken for made",
        edits: &[(
            WRITER,
            "                    reply.lay(Err(CommitError::Unknown(why.clone())), &mut bell);\n",
            "                    let sequence = self.index.applied();\n                    \
             reply.lay(Ok(Committed { sequence, grant: None }), &mut bell);\n",
        )],
        command: STORE,
    },
    Mutant {
        name: "a writer whose journal failed goes on",
        edits: &[
            (WRITER, "        if self.poisoned() {\n", "        if false {\n"),
            (
                WRITER,
                "                self.shared.poison(&why);\n",
                "                self.shared.stats.poisoned.store(true, Relaxed);\n",
            ),
        ],
        command: STORE,
    },
    Mutant {
        name: "a journal that failed goes on",
        edits: &[(
            "src/journal/redb.rs",
            "        self.poison.as_ref().map_or(Ok(()), |what| Err(JournalError::Poisoned(what.clone())))\n",
            "        Ok(())\n",
        )],
        command: JOURNAL,
    },
    Mutant {
        name: "revocations wait behind everything else",
        edits: &[(
            WRITER,
            "        if takes_away(change) { &mut self.urgent } else { &mut self.normal }\n",
            "        let _ = change;\n        &mut self.normal\n",
        )],
        command: STORE,
    },
    // ---- nothing that ended comes back ----
    Mutant {
        name: "the high-water mark is not compared",
        edits: &[(
            RECOVERY,
            "    known.extend(read_mark(dir, keys)?.map(|mark| (mark.revision, \"the high-water mark\".to_owned())));\n",
            "    read_mark(dir, keys)?;\n",
        )],
        command: STORE,
    },
    Mutant {
        name: "a snapshot's place in the journal is not compared",
        edits: &[(RECOVERY, "header.sequence, Some(ChainHash(header.chain)), floor)", "header.sequence, None, floor)")],
        command: STORE,
    },
    Mutant {
        name: "the high-water mark's seal is not checked",
        edits: &[(
            RECOVERY,
            "ring::hmac::verify(&mark_key(&key.bytes), sealed, tag).is_ok());\n",
            "true || ring::hmac::verify(&mark_key(&key.bytes), sealed, tag).is_ok());\n",
        )],
        command: STORE,
    },
    // ---- damage is found ----
    Mutant {
        name: "a snapshot's seal is not checked",
        edits: &[(
            "src/snapshot/open.rs",
            "        let matches = same(&keys.seal(&head, &table.0, &sealed), &mac);\n",
            "        let matches = true || same(&keys.seal(&head, &table.0, &sealed), &mac);\n",
        )],
        command: SNAPSHOT,
    },
    Mutant {
        name: "a section's MAC is not checked",
        edits: &[(
            "src/snapshot/open.rs",
            "        if !same(&self.keys.section(info.stand(position), room), &info.mac) {\n",
            "        if false && !same(&self.keys.section(info.stand(position), room), &info.mac) {\n",
        )],
        command: SNAPSHOT,
    },
    Mutant {
        name: "an entry's place in the chain is not checked",
        edits: &[("src/journal/row.rs", "        if !chain.is(&mac) {\n", "        if false && !chain.is(&mac) {\n")],
        command: JOURNAL,
    },
    Mutant {
        name: "the head's seal is not checked",
        edits: &[(
            "src/journal/head.rs",
            "keys.sealed(sealed, mac));\n",
            "Some(keys.sealed(sealed, mac).unwrap_or(keys.newest())));\n",
        )],
        command: JOURNAL,
    },
    // ---- the rule ----
    Mutant {
        name: "exp itself is still good",
        edits: &[(
            "src/domain/time.rs",
            "            Self::At(end) => now >= end,\n",
            "            Self::At(end) => now > end,\n",
        )],
        command: RULE,
    },
    Mutant {
        name: "nbf is not looked at",
        edits: &[(
            ACCESS,
            "            (now < times.not_before, Inactive::NotYetValid),\n",
            "            (false && now < times.not_before, Inactive::NotYetValid),\n",
        )],
        command: RULE,
    },
    Mutant {
        name: "who is no member has what was granted",
        edits: &[(
            ACCESS,
            "        if !in_workspace && !in_project {\n",
            "        if false && !in_workspace && !in_project {\n",
        )],
        command: RULE,
    },
    Mutant {
        name: "what was granted before leaving counts again",
        edits: &[(ACCESS, "        if since <= left {\n", "        if false && since <= left {\n")],
        command: RULE,
    },
    Mutant {
        name: "the workspace's policy is not asked",
        edits: &[(ACCESS, "        self.policy.admits(self.client)?;\n", "")],
        command: RULE,
    },
    Mutant {
        name: "a grant's own revocation is not looked at",
        edits: &[(
            ACCESS,
            "            (grant.revoked, Inactive::GrantRevoked),\n",
            "            (false && grant.revoked, Inactive::GrantRevoked),\n",
        )],
        command: RULE,
    },
    Mutant {
        name: "what was revoked between subject and client counts",
        edits: &[(
            ACCESS,
            "            (grant.made <= self.subject_client_void_before, Inactive::SubjectClientRevoked),\n",
            "",
        )],
        command: RULE,
    },
    Mutant {
        name: "a mark does not hit what was made at it",
        edits: &[(
            ACCESS,
            "            (grant.made <= client.void_before, Inactive::ClientRevoked),\n",
            "            (grant.made < client.void_before, Inactive::ClientRevoked),\n",
        )],
        command: RULE,
    },
    Mutant {
        name: "audiences are not compared",
        edits: &[(
            "src/service/introspect.rs",
            "    if for_caller { Ok(Alive { token, grant }) }",
            "    if for_caller || true { Ok(Alive { token, grant }) }",
        )],
        command: CACHES,
    },
    // ---- the index ----
    Mutant {
        name: "the revocation of an unknown token is forgotten",
        edits: &[(
            "src/index/apply.rs",
            "        let facts = SlotFacts { grant: NO_GRANT, revoked: true, times: SlotTimes::Here(times), used: 0 };\n        \
             self.tables.tokens.insert(key, facts, guard);\n",
            "        let _ = times;\n",
        )],
        command: &["--test", "corpus"],
    },
    Mutant {
        name: "a grant's revocation is lost when the grant is narrowed",
        edits: &[(
            "src/index/apply/access.rs",
            "            row[2].store(pairs | flags, Ordering::Release);\n",
            "            row[2].store(pairs | flags & !1, Ordering::Release);\n",
        )],
        command: &["--test", "corpus"],
    },
    Mutant {
        name: "tokens are swept at their end, not an hour later",
        edits: &[(
            "src/index/apply.rs",
            "    expiry.has_passed(now.minus(REMEMBERED_SECONDS))\n",
            "    expiry.has_passed(now)\n",
        )],
        command: INDEX,
    },
    // ---- the near-cache and its fence ----
    Mutant {
        name: "a near-cache does not look at its lease",
        edits: &[(
            "src/client/near/belief.rs",
            "        (now.0 < self.until.load(Ordering::Acquire)).then(|| self.read(now))\n",
            "        Some(self.read(now))\n",
        )],
        command: NEAR,
    },
    Mutant {
        name: "a near-cache does not look at what was touched",
        edits: &[(
            "src/client/near/belief.rs",
            "licence.counts(generation) && !self.stamps.touched_since(tags, sequence) && self.unchanged(licence)",
            "licence.counts(generation) && (true || self.stamps.touched_since(tags, sequence)) && self.unchanged(licence)",
        )],
        command: NEAR,
    },
    Mutant {
        name: "an answer from before everything was forgotten is kept",
        edits: &[
            (
                "src/client/near/memory.rs",
                "        if !self.belief.is_current(ticket, facts.incarnation) {\n",
                "        if false {\n",
            ),
            (
                "src/client/near/memory.rs",
                "            generation: ticket.generation,\n",
                "            generation: self.belief.generation(),\n",
            ),
        ],
        command: NEAR,
    },
    Mutant {
        name: "a fence does not wait",
        edits: &[(
            "src/feed/fence.rs",
            "            if *holder.acknowledged.borrow() < self.required {\n",
            "            if false && *holder.acknowledged.borrow() < self.required {\n",
        )],
        command: FEED,
    },
    Mutant {
        name: "a fence forgets followers nobody knows",
        edits: &[(
            "src/feed/fence.rs",
            "        (self.unknown_until > now).then_some(self.unknown_until)\n",
            "        let _ = now;\n        None\n",
        )],
        command: FEED,
    },
];
