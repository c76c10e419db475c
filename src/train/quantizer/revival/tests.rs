//! Tests of the use of the codes: what counts as dead, when it is revived, what is reported.

use super::*;

fn settings() -> CodebookSettings {
    CodebookSettings { revive_every: 20, ..CodebookSettings::default() }
}

#[test]
fn codes_unused_for_the_window_are_dead_and_only_they() {
    // 8 visits of 64 codes by 100 latents a step take 6 steps, less than the interval of 20.
    let mut codes = CodeUse::new(CodeCounts::new(64), 100, 1000, &settings());
    assert!(codes.due(19).is_empty());
    codes.start(100);
    for step in 0..20u32 {
        // Code 0 always, code 1 until the last step of its grace.
        codes.note(if step == 0 { &[0, 1] } else { &[0] });
        assert_eq!(codes.due(101 + u64::from(step)).len(), if step == 19 { 62 } else { 0 });
    }
    assert_eq!(codes.recent_usage(), 2.0 / 64.0);
    codes.revived(&(2..64).collect::<Vec<_>>());
    assert_eq!(codes.recent_usage(), 1.0);
    // Few latents for many codes: a code may wait longer.
    let mut many = CodeUse::new(CodeCounts::new(1000), 100, 1000, &settings());
    many.start(0);
    (0..79).for_each(|_| many.note(&[0]));
    assert_eq!(many.recent_usage(), 1.0);
    many.note(&[0]);
    assert_eq!(many.recent_usage(), 0.001);
}

#[test]
fn a_report_speaks_for_enough_steps_and_never_twice() {
    let mut codes = CodeUse::new(CodeCounts::new(4), 100, 1000, &settings());
    for _ in 0..19 {
        codes.note(&[0, 1]);
        assert!(codes.take_window().is_none());
    }
    codes.note(&[3]);
    assert_eq!(codes.take_window().unwrap().counts, [19, 19, 0, 1]);
    assert!(codes.take_window().is_none());
}

#[test]
fn the_state_comes_back() {
    let mut codes = CodeUse::new(CodeCounts::new(4), 100, 1000, &settings());
    codes.start(3);
    codes.note(&[0, 1]);
    let mut back = CodeUse::new(CodeCounts::new(4), 100, 1000, &settings());
    back.restore(codes.schedule(), &codes.state()).unwrap();
    assert_eq!((back.state(), back.schedule()), (codes.state(), codes.schedule()));
    assert!(
        CodeUse::new(CodeCounts::new(5), 100, 1000, &settings())
            .restore(None, &codes.state())
            .is_err()
    );
}

#[test]
fn the_schedule_doubles_ends_and_is_re_armed() {
    let rule = RevivalRule { every: 20, until: 800, rearm: 0.5 };
    let steps = |rule: RevivalRule, usage: &dyn Fn(u64) -> f64| -> Vec<u64> {
        let mut schedule = RevivalSchedule::new(rule, 100);
        (101..1000).filter(|s| schedule.due(rule, *s, usage(*s))).collect()
    };
    // All alive: doubling, and nothing in the last part.
    assert_eq!(steps(rule, &|_| 1.0), [120, 160, 240, 400, 720]);
    // Some die from 300 on: the next revival finds them and starts again.
    let found = steps(rule, &|s| if (300..=450).contains(&s) { 0.9 } else { 1.0 });
    assert_eq!(found, [120, 160, 240, 400, 420, 440, 460, 500, 580, 740]);
    // A collapse is met at once, even in the last part, and until all live again.
    let collapse = steps(rule, &|s| if (850..860).contains(&s) { 0.1 } else { 1.0 });
    assert_eq!(collapse, [120, 160, 240, 400, 720, 870]);
    let collapse = steps(rule, &|s| match s {
        850..880 => 0.1,
        880..920 => 0.8,
        _ => 1.0,
    });
    assert_eq!(collapse, [120, 160, 240, 400, 720, 870, 890, 910, 930]);
    assert!(steps(RevivalRule { every: 0, ..rule }, &|_| 0.0).is_empty());
}
