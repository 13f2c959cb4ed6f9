// The long script: a server that changes three tokens and now and then begins anew, a follower that is told, two that ask
// and bring answers late, two that look. What was true is written down beside it.

use std::cell::RefCell;
use std::rc::Rc;

use sync::Rng;

const TOKENS: usize = 3;
/// What the server does.
const STEPS: usize = 8;
/// What each of the others does.
const LOOKS: usize = 5;

/// The server, and what was true of each token: whether it may read.
struct Server {
    incarnation: u64,
    sequence: u64,
    truth: [Vec<bool>; TOKENS],
    /// The first that may still be said by who begins now: what was before was fenced.
    from: [usize; TOKENS],
    /// Of the incarnation: when each token was last changed.
    changed: [u64; TOKENS],
}

impl Server {
    fn facts(&self, token: usize) -> Facts {
        let mut facts = facts(self.sequence);
        facts.incarnation = self.incarnation;
        // Each token has tags of its own, two of which share their slots with another's.
        facts.tags = std::array::from_fn(|tag| (token * 3 + tag) as u64);
        if self.truth[token].last() == Some(&false) {
            facts.pairs = [].into_iter().collect();
        }
        facts
    }

    fn fenced(&mut self) {
        self.from = std::array::from_fn(|token| self.truth[token].len() - 1);
    }
}

/// Three tokens in a world where things go on.
pub fn mixed() {
    let memory = memory();
    let server = Server {
        incarnation: INCARNATION,
        sequence: HEAD,
        truth: std::array::from_fn(|_| vec![true]),
        from: [0; TOKENS],
        changed: [HEAD; TOKENS],
    };
    let server = Rc::new(RefCell::new(server));
    let others: Vec<_> =
        (0..2).flat_map(|_| [mixed_asker(&memory, &server), mixed_reader(&memory, &server)]).collect();
    let mut random = sync::thread_rng();
    for _ in 0..STEPS {
        match random.gen_range(0..8) {
            0 => begins_anew(&memory, &server),
            1 => everything_is_touched(&memory, &server),
            _ => changes(&memory, &server, random.gen_range(0..TOKENS)),
        }
    }
    others.into_iter().for_each(sync::Running::join);
}

/// One token may from now on, or may not any more; one of its tags is touched.
fn changes(memory: &Memory, server: &RefCell<Server>, token: usize) {
    let (tag, sequence) = {
        let mut server = server.borrow_mut();
        server.sequence += 1;
        let sequence = server.sequence;
        let may = server.truth[token].last() == Some(&false);
        server.truth[token].push(may);
        server.changed[token] = sequence;
        ((token * 3 + 1) as u64, sequence)
    };
    memory.belief.touch(tag, sequence);
    memory.belief.advance(sequence);
    server.borrow_mut().fenced();
}

fn everything_is_touched(memory: &Memory, server: &RefCell<Server>) {
    let sequence = {
        let mut server = server.borrow_mut();
        server.sequence += 1;
        server.truth.iter_mut().for_each(|truth| truth.push(truth.last() == Some(&false)));
        server.sequence
    };
    memory.belief.forget();
    memory.belief.advance(sequence);
    memory.keep_scope(memory.ticket(), EPOCH, "read", resolved(0, sequence));
    server.borrow_mut().fenced();
}

/// Another start of the server, with a list that ends earlier.
fn begins_anew(memory: &Memory, server: &RefCell<Server>) {
    let (incarnation, sequence) = {
        let mut server = server.borrow_mut();
        server.incarnation += 1;
        server.sequence -= 5;
        server.truth.iter_mut().for_each(|truth| truth.push(truth.last() == Some(&false)));
        (server.incarnation, server.sequence)
    };
    memory.belief.begin(EPOCH, incarnation, sequence);
    memory.belief.lease(Lease::granted(at(0), LENGTH, WALL_MS));
    memory.keep_scope(memory.ticket(), EPOCH, "read", resolved(0, sequence));
    server.borrow_mut().fenced();
}

/// Asks about any token, and keeps the answer whenever it comes.
fn mixed_asker(memory: &Arc<Memory>, server: &Rc<RefCell<Server>>) -> sync::Running<()> {
    let (memory, server) = (Arc::clone(memory), Rc::clone(server));
    sync::spawn(move || {
        let mut random = sync::thread_rng();
        for _ in 0..LOOKS {
            let token = random.gen_range(0..TOKENS);
            let ticket = memory.ticket();
            let answer = server.borrow().facts(token);
            sync::yield_now();
            memory.keep(ticket, &digest(token as u8), "A", &answer, at(0));
        }
    })
}

/// Looks for any token; what memory says was true at some moment since the last fence.
fn mixed_reader(memory: &Arc<Memory>, server: &Rc<RefCell<Server>>) -> sync::Running<()> {
    let (memory, server) = (Arc::clone(memory), Rc::clone(server));
    sync::spawn(move || {
        let mut random = sync::thread_rng();
        for _ in 0..2 * LOOKS {
            let token = random.gen_range(0..TOKENS);
            let from = server.borrow().from[token];
            let question = Question { digest: &digest(token as u8), scope: "read", place: "A", floor: None };
            let Some(said) = memory.look(&question, at(1)) else { continue };
            let possible = server.borrow().truth[token][from..].to_vec();
            let said = said == Decision::Allowed;
            assert!(possible.contains(&said), "token {token}: {said} was not true in the meantime: {possible:?}");
        }
    })
}
