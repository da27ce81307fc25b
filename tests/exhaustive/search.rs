//! Breadth-first search over every history of a small world.
//!
//! A state is kept as 64 bits of its hash, with the step that led to it and the state before, so that a history can be
//! told from its end. Only the states from which the search goes on are kept whole.

use std::collections::HashMap;
use std::fmt::Write;
use std::panic::{self, AssertUnwindSafe};
use std::time::Instant;

/// The most states kept whole at a time; a search that would need more ends there, and says so.
const MAX_KEPT: usize = 700_000;

/// The most steps told of those after which nothing fails.
const MAX_TOLD: usize = 40;

/// A small world that can be searched.
pub trait World: Clone {
    /// What can happen to it.
    type Step: Copy;

    /// Everything that can happen next.
    fn steps(&self) -> Vec<Self::Step>;

    /// What happens next if nothing fails from now on; `None` once everything is as it must come to be.
    fn kind(&self) -> Option<Self::Step>;

    /// Lets `step` happen.
    ///
    /// # Errors
    /// What is wrong, if the step breaks a rule.
    fn take(&mut self, step: Self::Step) -> Result<(), String>;

    /// Writes what decides how the world goes on: two worlds that write the same go on alike. Times are relative to now.
    fn write(&self, text: &mut String);

    /// Describes `step` before it is taken, for people.
    fn tell(&self, step: Self::Step) -> String;
}

/// How far to search.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most steps of a history.
    pub depth: usize,
    /// The most steps that `EXHAUSTIVE_DEEPER` can make of it.
    pub deepest: usize,
    /// The most steps after which everything must be as it must come to be, if nothing fails any more.
    pub kind: usize,
}

/// What a search that found nothing wrong has seen.
#[derive(Debug)]
pub struct Searched {
    /// Different states.
    pub states: usize,
    /// Steps taken, without those in which nothing fails any more.
    pub steps: usize,
    /// The depth to which every history was played.
    pub depth: usize,
    /// The most steps that it took until everything was as it must come to be.
    pub longest: usize,
}

/// A history that breaks a rule; no shorter one does.
#[derive(Debug)]
pub struct Counterexample {
    /// What happened, in order.
    pub lines: Vec<String>,
    /// Which rule it breaks.
    pub problem: String,
}

/// Where a state came from: the place of the state before, and of the step among its steps.
type Origin = (u32, u16);

/// Plays every history from `start` on, shorter ones first.
///
/// # Errors
/// The shortest history that breaks a rule.
pub fn search<W: World>(start: &W, limits: Limits) -> Result<Searched, Counterexample> {
    let mut search = Search {
        start,
        limits,
        settled_in: HashMap::new(),
        known: HashMap::new(),
        origins: Vec::new(),
        longest: 0,
    };
    search.run()
}

struct Search<'a, W> {
    start: &'a W,
    limits: Limits,
    /// In how many steps a state comes to rest if nothing fails any more.
    settled_in: HashMap<u64, u16>,
    /// The places of the states reached.
    known: HashMap<u64, u32>,
    origins: Vec<Origin>,
    longest: usize,
}

impl<W: World> Search<'_, W> {
    fn run(&mut self) -> Result<Searched, Counterexample> {
        let mut frontier = vec![(self.start.clone(), 0)];
        self.known.insert(key(self.start), 0);
        self.origins.push((0, 0));
        let (mut steps, mut depth) = (0, 0);
        while depth < self.limits.depth && !frontier.is_empty() {
            let is_last = depth + 1 == self.limits.depth;
            let mut next = Vec::new();
            for (world, place) in frontier {
                for (nth, step) in world.steps().into_iter().enumerate() {
                    steps += 1;
                    let reached = self.reach(&world, place, (nth, step))?;
                    next.extend(reached.filter(|_| !is_last));
                }
                if next.len() > MAX_KEPT {
                    println!(
                        "too many states: not every history of {} steps is played",
                        depth + 1
                    );
                    return Ok(self.searched(steps, depth));
                }
            }
            frontier = next;
            depth += 1;
        }
        Ok(self.searched(steps, depth))
    }

    fn searched(&self, steps: usize, depth: usize) -> Searched {
        Searched {
            states: self.origins.len(),
            steps,
            depth,
            longest: self.longest,
        }
    }

    /// Takes a step from the state at `place`; returns the state reached if it is new.
    fn reach(
        &mut self,
        world: &W,
        place: u32,
        (nth, step): (usize, W::Step),
    ) -> Result<Option<(W, u32)>, Counterexample> {
        let mut reached = world.clone();
        let origin = (place, u16::try_from(nth).expect("few steps"));
        if let Err(problem) = take(&mut reached, step) {
            return Err(self.counterexample(origin, &[], problem));
        }
        let key = key(&reached);
        let place = u32::try_from(self.origins.len()).expect("fewer states than that");
        if *self.known.entry(key).or_insert(place) != place {
            return Ok(None);
        }
        self.origins.push(origin);
        self.settle(&reached, key, origin)?;
        Ok(Some((reached, place)))
    }

    /// Checks that a state comes to rest if nothing fails any more.
    fn settle(&mut self, from: &W, key_of: u64, origin: Origin) -> Result<(), Counterexample> {
        let (mut world, mut at) = (from.clone(), key_of);
        let (mut path, mut taken) = (Vec::new(), Vec::new());
        let mut rest = loop {
            if let Some(rest) = self.settled_in.get(&at) {
                break usize::from(*rest);
            }
            path.push(at);
            let Some(step) = world.kind() else {
                path.pop();
                self.settled_in.insert(at, 0);
                break 0;
            };
            taken.push(step);
            let result = match taken.len() > self.limits.kind {
                true => Err(format!("is not at rest after {} steps", self.limits.kind)),
                false => take(&mut world, step),
            };
            if let Err(problem) = result {
                return Err(self.counterexample(origin, &taken, problem));
            }
            at = key(&world);
        };
        if rest + path.len() > self.limits.kind {
            let problem = format!("is not at rest after {} steps", self.limits.kind);
            return Err(self.counterexample(origin, &taken, problem));
        }
        for at in path.into_iter().rev() {
            rest += 1;
            self.settled_in
                .insert(at, u16::try_from(rest).expect("few steps"));
        }
        self.longest = self.longest.max(rest);
        Ok(())
    }

    /// Tells the history that ends with the step of `last`, and goes on with `kind`.
    fn counterexample(&self, last: Origin, kind: &[W::Step], problem: String) -> Counterexample {
        let mut path = vec![last.1];
        let mut place = last.0;
        while place != 0 {
            let (before, nth) = self.origins[place as usize];
            path.push(nth);
            place = before;
        }
        let mut world = self.start.clone();
        let mut lines = Vec::new();
        for nth in path.into_iter().rev() {
            let step = world.steps()[usize::from(nth)];
            lines.push(world.tell(step));
            // The last one fails, which is what is told.
            let _ = take(&mut world, step);
        }
        if !kind.is_empty() {
            lines.push("from here on nothing fails:".to_owned());
        }
        for step in kind.iter().take(MAX_TOLD) {
            lines.push(world.tell(*step));
            let _ = take(&mut world, *step);
        }
        Counterexample { lines, problem }
    }
}

/// Takes a step; a panic is a problem like any other.
fn take<W: World>(world: &mut W, step: W::Step) -> Result<(), String> {
    let taken = panic::catch_unwind(AssertUnwindSafe(|| world.take(step)));
    taken.unwrap_or_else(|panicked| {
        let text = panicked.downcast_ref::<String>().cloned();
        let text = text.or_else(|| {
            panicked
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
        });
        Err(format!("panicked: {}", text.unwrap_or_default()))
    })
}

fn key<W: World>(world: &W) -> u64 {
    let mut text = String::with_capacity(4_096);
    world.write(&mut text);
    hash(text.as_bytes())
}

/// A hash of 64 bits, eight bytes at a time.
fn hash(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let mut hash = bytes.len() as u64;
    for word in words.iter().chain([&last]) {
        hash = (hash ^ u64::from_le_bytes(*word)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash ^= hash >> 32;
    }
    hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53) ^ (hash >> 29)
}

/// Searches `start` and prints what was seen; `EXHAUSTIVE_DEEPER` adds to the depth.
///
/// # Panics
/// With the shortest history that breaks a rule.
pub fn check<W: World>(name: &str, start: &W, limits: Limits) {
    let deeper = std::env::var("EXHAUSTIVE_DEEPER").map_or(0, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("EXHAUSTIVE_DEEPER={text} is not a number"))
    });
    let limits = Limits {
        depth: limits.deepest.min(limits.depth + deeper),
        kind: limits.kind + 4 * deeper,
        ..limits
    };
    let began = Instant::now();
    match search(start, limits) {
        Ok(Searched {
            states,
            steps,
            depth,
            longest,
        }) => {
            let seconds = began.elapsed().as_secs_f64();
            println!(
                "{name}: {states} states, {steps} steps, to a depth of {depth}, in {seconds:.1} s; at rest within {longest}"
            );
        }
        Err(Counterexample { lines, problem }) => {
            let mut told = String::new();
            for (nth, line) in lines.iter().enumerate() {
                let _ = writeln!(told, "  {:2}. {line}", nth + 1);
            }
            panic!("{name}: the shortest history that fails:\n{told}  {problem}");
        }
    }
}
