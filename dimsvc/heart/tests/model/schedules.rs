//! Which schedules are run, and how many.

use shuttle::{
    Config, MaxSteps, Runner,
    scheduler::{DfsScheduler, PctScheduler, RandomScheduler},
};

/// Schedules of each random world where `MODEL_SCHEDULES` does not say.
const SCHEDULES: usize = 1_000;
/// Of a small case, under each of two schedulers: some ten times as many as it
/// took to fail with its rule taken out.
const CASE_SCHEDULES: usize = 5_000;
/// More than any world takes: a schedule that does not end is a fault.
const STEPS_MAX: usize = 200_000;
/// Preemptions that are placed at random.
const PREEMPTIONS: usize = 3;

fn setting(name: &str) -> Option<usize> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not `{text}`")))
}

fn config() -> Config {
    let mut config = Config::new();
    config.max_steps = MaxSteps::FailAfter(STEPS_MAX);
    config.silence_warnings = true;
    config
}

/// Runs a world under random schedules, and a quarter as many in which few
/// threads are preempted, each at the worst moment.
pub(crate) fn random(world: fn()) {
    if let Ok(schedule) = std::env::var("MODEL_REPLAY") {
        return shuttle::replay(world, &schedule);
    }
    let schedules = setting("MODEL_SCHEDULES").unwrap_or(SCHEDULES).max(4);
    let seed = setting("MODEL_SEED").unwrap_or(20_260_101) as u64;
    let pct = schedules / 4;
    Runner::new(RandomScheduler::new_from_seed(seed, schedules - pct), config()).run(world);
    Runner::new(PctScheduler::new_from_seed(seed, PREEMPTIONS, pct), config()).run(world);
}

/// Runs a case that has too many orders for all of them.
pub(crate) fn many(case: fn()) {
    Runner::new(RandomScheduler::new_from_seed(1, CASE_SCHEDULES), config()).run(case);
    Runner::new(PctScheduler::new_from_seed(1, PREEMPTIONS, CASE_SCHEDULES), config()).run(case);
}

/// Runs a small case in every order that there is.
///
/// # Panics
/// When there are more than `schedules_max`: the case is not small.
pub(crate) fn all(schedules_max: usize, case: fn()) {
    let scheduler = DfsScheduler::new(Some(schedules_max), false);
    let run = Runner::new(scheduler, config()).run(case);
    assert!(run < schedules_max, "more than {schedules_max} orders: none was left out only below that");
}
