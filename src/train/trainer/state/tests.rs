//! Tests of the checkpoint's file.

use super::*;

/// A state after `step` steps.
pub(crate) fn fixture(step: usize) -> State {
    let mut state = state();
    state.counters.step = step;
    state
}

fn state() -> State {
    State {
        counters: Counters {
            format: FORMAT.into(),
            recipe: serde_json::json!({"train": {"steps": 3}}),
            step: 2,
            updates: 2,
            average_updates: 2,
            skipped: 1,
            recent_skips: vec![2],
            revived: 7,
            variance: Bits(0.1 + 0.2),
            revival: Some(RevivalSchedule { interval: 20, next: 40, armed: true }),
            adversary: Some(AdversaryCounters {
                updates: 1,
                skipped: 0,
                lecam_real: Bits(0.1 + 0.2),
                lecam_fake: Bits(-0.0),
                weight_scale: Bits(0.5),
                ramp_from: 4,
            }),
            monitor: MonitorState { dead: true, ..MonitorState::default() },
            snapshot: None,
            record: Lengths { lines: 12, events: 34 },
        },
        floats: Named::from([
            ("weights.a".into(), vec![1.0, -0.0, f32::MIN_POSITIVE / 8.0, 3.3]),
            ("moment1.a".into(), vec![]),
        ]),
        integers: BTreeMap::from([("codebook.idle".into(), vec![5, -1])]),
    }
}

fn bytes() -> Vec<u8> {
    let mut bytes = Vec::new();
    state().write(&mut bytes, Path::new("x")).unwrap();
    bytes
}

#[test]
fn a_state_survives_the_file_bit_for_bit() {
    let bytes = bytes();
    assert_eq!(bytes, self::bytes());
    let back = State::from_bytes(&bytes).unwrap();
    assert_eq!(back, state());
    assert!(back.floats["weights.a"][1].is_sign_negative());
    assert_eq!(back.part("weights.").keys().collect::<Vec<_>>(), ["a"]);
}

#[test]
fn a_state_within_a_state_comes_out_again() {
    let mut outer = state();
    outer.nest("snapshot.", &state());
    assert_eq!(outer.floats.len(), 2 * state().floats.len());
    assert_eq!(outer.part("weights.").keys().collect::<Vec<_>>(), ["a"]);
    let (floats, integers) = outer.nested("snapshot.");
    assert_eq!((floats, integers), (state().floats, state().integers));
}

#[test]
fn every_flipped_bit_and_every_cut_is_found() {
    let bytes = bytes();
    for at in 0..bytes.len() {
        let mut broken = bytes.clone();
        broken[at] ^= 4;
        if let Ok(read) = State::from_bytes(&broken) {
            // White space in the header may change without changing what it says.
            assert_eq!(read, state(), "byte {at}");
        }
        assert!(State::from_bytes(&bytes[..at]).is_err());
    }
}
