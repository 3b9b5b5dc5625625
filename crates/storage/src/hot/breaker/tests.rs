//! Every order of calls, answers and silence: what the circuit promises.

use proptest::prelude::*;

use super::*;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Calls that fail at once until nobody is let through. How many that took.
fn fail_until_open(breaker: &mut Breaker, now: Duration) -> u32 {
    let mut calls = 0;
    while let Some(admission) = breaker.admit(now) {
        breaker.failed(admission, now);
        calls += 1;
    }
    calls
}

#[test]
fn a_few_failures_open_it() {
    let mut breaker = Breaker::default();
    assert_eq!(fail_until_open(&mut breaker, ms(5)), FAILURES);
    assert!(breaker.is_open(ms(5)));
}

#[test]
fn a_server_that_hangs_after_many_successes_opens_it_as_fast() {
    let mut breaker = Breaker::default();
    for _ in 0..10_000 {
        let admission = breaker.admit(ms(0)).unwrap();
        breaker.succeeded(admission, ms(0));
    }
    assert_eq!(fail_until_open(&mut breaker, ms(50)), IN_A_ROW);
}

#[test]
fn failures_among_many_successes_do_not_open_it() {
    let mut breaker = Breaker::default();
    for at in 0..1_000 {
        let admission = breaker.admit(ms(at)).unwrap();
        if at % 3 == 2 {
            breaker.failed(admission, ms(at));
        } else {
            breaker.succeeded(admission, ms(at));
        }
    }
    assert!(!breaker.is_open(ms(1_000)));
}

#[test]
fn failures_that_lie_far_apart_do_not_open_it() {
    let mut breaker = Breaker::default();
    for at in 0..100 {
        let now = ms(at * 700);
        let admission = breaker.admit(now).unwrap();
        assert!(!breaker.failed(admission, now));
    }
}

#[test]
fn calls_in_flight_together_open_it_once() {
    let mut breaker = Breaker::default();
    let admissions: Vec<_> = (0..20).map(|_| breaker.admit(ms(0)).unwrap()).collect();
    let opened = admissions.into_iter().filter(|admission| breaker.failed(*admission, ms(50))).count();
    assert_eq!(opened, 1);
}

#[test]
fn one_probe_at_a_time_and_its_success_closes_it() {
    let mut breaker = Breaker::default();
    fail_until_open(&mut breaker, ms(0));
    assert!(breaker.admit(REST - ms(1)).is_none());
    let probe = breaker.admit(REST).unwrap();
    assert!(breaker.admit(REST).is_none());
    breaker.succeeded(probe, REST + ms(10));
    assert!(breaker.admit(REST + ms(10)).is_some() && breaker.admit(REST + ms(10)).is_some());
}

#[test]
fn probes_that_fail_come_less_often() {
    let mut breaker = Breaker::default();
    fail_until_open(&mut breaker, ms(0));
    let (mut now, mut probes) = (ms(0), Vec::new());
    while now < Duration::from_secs(20) {
        if let Some(probe) = breaker.admit(now) {
            breaker.failed(probe, now);
            probes.push(now);
        }
        now += ms(10);
    }
    let rests: Vec<Duration> = probes.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(rests.windows(2).all(|pair| pair[0] <= pair[1]), "{rests:?}");
    assert_eq!(rests.last(), Some(&LONGEST_REST));
}

#[test]
fn a_probe_that_was_given_up_or_never_answers_does_not_keep_others_out() {
    let mut breaker = Breaker::default();
    fail_until_open(&mut breaker, ms(0));
    let probe = breaker.admit(REST).unwrap();
    breaker.abandoned(probe, REST);
    let silent = breaker.admit(REST).unwrap();
    assert!(breaker.admit(REST + PROBE - ms(1)).is_none());
    let probe = breaker.admit(REST + PROBE).unwrap();
    breaker.failed(silent, REST + PROBE);
    breaker.succeeded(probe, REST + PROBE);
    assert!(!breaker.is_open(REST + PROBE));
}

#[test]
fn what_comes_late_changes_nothing() {
    let mut breaker = Breaker::default();
    let late = breaker.admit(ms(0)).unwrap();
    fail_until_open(&mut breaker, ms(0));
    breaker.succeeded(late, ms(1));
    assert!(breaker.is_open(ms(1)));
    let probe = breaker.admit(REST).unwrap();
    breaker.failed(late, REST);
    breaker.succeeded(probe, REST);
    assert!(!breaker.is_open(REST));
}

proptest! {
    /// Whatever happened before: a server that answers is used again within the longest rest and the patience for one probe.
    #[test]
    fn it_always_heals(steps in prop::collection::vec((0u64..400, 0u8..4), 0..200)) {
        let mut breaker = Breaker::default();
        let (mut now, mut held) = (Duration::ZERO, Vec::new());
        for (pause, what) in steps {
            now += ms(pause);
            match (what, held.pop()) {
                (0, Some(admission)) => drop(breaker.succeeded(admission, now)),
                (1, Some(admission)) => drop(breaker.failed(admission, now)),
                (2, Some(admission)) => breaker.abandoned(admission, now),
                (_, admission) => {
                    held.extend(admission);
                    held.extend(breaker.admit(now));
                }
            }
        }
        let healed = now + LONGEST_REST + PROBE;
        let admission = breaker.admit(healed);
        prop_assert!(admission.is_some());
        breaker.succeeded(admission.unwrap(), healed);
        prop_assert!(!breaker.is_open(healed));
    }
}
