//! What a store keeps, whom it knows, and what it draws.

use super::*;

struct Counter(u64);
impl State for Counter {
    fn save(&self) -> Vec<(&'static str, Array)> {
        vec![("count", Array::U64(vec![self.0]))]
    }
    fn load(&mut self, get: &mut dyn FnMut(&str) -> Option<Array>) -> std::result::Result<(), String> {
        match get("count") {
            Some(Array::U64(v)) if v.len() == 1 => self.0 = v[0],
            _ => return Err("one whole number `count`".into()),
        }
        Ok(())
    }
}

fn model() -> (Store, ParamId, Slot<Counter>) {
    let mut s = Store::seeded(7);
    let w = s.add_normal("w", Group::Weight, &[2, 3], 1.0).unwrap();
    let c = s.add_state("c", Counter(0)).unwrap();
    (s, w, c)
}

#[test]
fn a_state_dict_brings_everything_back() {
    let (mut a, w, c) = model();
    a.param_mut(w).value.data_mut()[4] = 9.0;
    a.state_mut(c).0 = 5;
    let dict = a.state_dict();
    assert_eq!(dict.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>(), ["w", "c.count"]);
    let (mut b, x, d) = model();
    b.load_state_dict(|name| dict.iter().find(|(n, _)| n == name).map(|(_, a)| a.clone())).unwrap();
    assert_eq!((b.param(x).value.data(), b.state(d).0), (a.param(w).value.data(), 5));
    let e = b.load_state_dict(|_| None).unwrap_err().to_string();
    assert_eq!(e, "state `w`: expected f32 [2, 3], found nothing");
}

#[test]
fn a_parameter_is_read_and_written_by_its_name() {
    let (mut s, w, _) = model();
    s.param_mut(w).grad = Some(Tensor::zeros(&[2, 3]));
    s.set_value("w", Tensor::full(&[2, 3], 4.0)).unwrap();
    assert_eq!((s.find("w"), s.value("w").unwrap().data()), (Ok(w), &[4.0; 6][..]));
    assert!(s.grad(w).is_none());
    let e = s.set_value("w", Tensor::zeros(&[3, 2])).unwrap_err().to_string();
    assert_eq!(e, "state `w`: expected f32 [2, 3], found f32 [3, 2]");
    assert_eq!(s.value("w").unwrap().data(), [4.0; 6]);
    // `c` is state and no parameter.
    let e = s.value("c").unwrap_err().to_string();
    assert_eq!(e, "state `c`: expected a parameter, found none of this name");
}

#[test]
fn given_values_take_the_place_of_first_ones_where_the_shape_fits() {
    let given = ["w", "scale", "bias", "unused"].map(|name| (name.to_string(), Tensor::full(&[2], 5.0)));
    let mut s = Store::seeded(7).starting_from(given.into());
    let w = s.add_normal("w", Group::Latent, &[2], 1.0).unwrap();
    let scale = s.add("scale", Group::Scale, Tensor::zeros(&[2])).unwrap();
    let bias = s.add("bias", Group::Offset, Tensor::zeros(&[3])).unwrap();
    let values = [w, scale, bias].map(|id| s.param(id).value.data().to_vec());
    assert_eq!(values, [vec![5.0; 2], vec![0.0; 2], vec![0.0; 3]]);
}

#[test]
fn names_are_unique_and_initial_values_follow_from_seed_and_name() {
    let (mut s, w, _) = model();
    assert_eq!(s.add("c", Group::Weight, Tensor::scalar(0.0)), Err(Error::DuplicateName("c".into())));
    let (other, v, _) = model();
    assert_eq!(s.param(w).value.data(), other.param(v).value.data());
    let x = s.add_normal("x", Group::Weight, &[2, 3], 1.0).unwrap();
    assert_ne!(s.param(w).value.data(), s.param(x).value.data());
}

/// Two names with the same hash of 32 bits.
const TWINS: [&str; 2] = ["block19.conv68", "block366.conv326"];

fn words(stream: Stream) -> Vec<u16> {
    let mut words = vec![0; 4000];
    stream.fill_u16(0, &mut words);
    words
}

/// How many places have the same word; of random words one in 65,536.
fn shared(a: &[u16], b: &[u16]) -> usize {
    a.iter().zip(b).filter(|(a, b)| a == b).count()
}

#[test]
fn noise_differs_between_draws_of_a_step_and_between_steps_far_apart() {
    let mut store = Store::seeded(7);
    let first = words(store.noise("l"));
    // The first draw of a name is that of the seed, its hash and the step alone.
    let plain = Stream::new(7, domain::ROUNDING, streams::name_hash("l"), 0);
    assert_eq!(first, words(plain));
    let (second, third) = (words(store.noise("l")), words(store.noise("l")));
    assert_eq!((store.draws("l"), store.draws("m")), (3, 0));
    for (a, b) in [(&first, &second), (&first, &third), (&second, &third)] {
        assert!(shared(a, b) < 5);
    }
    // A step, and a fresh start of one, begin to count anew.
    store.zero_grad();
    assert_eq!(words(store.noise("l")), first);
    store.advance();
    assert_eq!(words(store.noise("l")), words(Stream::new(7, domain::ROUNDING, streams::name_hash("l"), 1)));
    // 2^32 steps later the low half of the number of the step is the same.
    store.set_step(1 << 32);
    let late = words(store.noise("l"));
    store.set_step(1 << 33);
    let later = words(store.noise("l"));
    assert!(shared(&first, &late) < 5 && shared(&first, &later) < 5 && shared(&late, &later) < 5);
}

#[test]
fn names_of_one_hash_share_neither_noise_nor_first_values() {
    assert_eq!(streams::name_hash(TWINS[0]), streams::name_hash(TWINS[1]));
    let mut store = Store::seeded(7);
    TWINS.iter().for_each(|name| store.add_noise(name));
    // The order of making tells them apart, not that of drawing.
    let (b, a) = (words(store.noise(TWINS[1])), words(store.noise(TWINS[0])));
    assert!(shared(&a, &b) < 5);
    let mut alone = Store::seeded(7);
    assert_eq!(words(alone.noise(TWINS[0])), a);
    let [w, x] = TWINS.map(|name| store.add_normal(name, Group::Weight, &[100], 1.0).unwrap());
    let same = store.param(w).value.data().iter().zip(store.param(x).value.data()).filter(|(a, b)| a == b).count();
    assert_eq!(same, 0);
    assert_eq!(store.param(w).value.data(), {
        let id = alone.add_normal(TWINS[0], Group::Weight, &[100], 1.0).unwrap();
        alone.param(id).value.data()
    });
}

#[test]
fn what_another_store_made_is_refused() {
    let (mut one, w, c) = model();
    let (mut other, v, d) = model();
    assert!(one.owns(w).is_ok() && one.owns(c).is_ok() && one.owns(one.id()).is_ok());
    for e in [one.owns(v), one.owns(d), one.owns(other.id()), one.accumulate(v, Tensor::zeros(&[2, 3]))] {
        let e = e.unwrap_err().to_string();
        assert!(e.starts_with("the store of a parameter, a layer or an optimizer: expected the one that"), "{e}");
    }
    // Where there is no result to say so, it is said by a panic, never by another parameter.
    let panics = |f: &mut dyn FnMut()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).is_err();
    assert!(panics(&mut || drop(one.param(v).value.clone())) && panics(&mut || other.state_mut(c).0 = 1));
    assert!(panics(&mut || drop(one.param_mut(v).grad.take())) && panics(&mut || drop(other.take_grad(w))));
}

#[test]
fn a_gradient_of_another_shape_is_refused() {
    let (mut s, w, _) = model();
    s.accumulate(w, Tensor::full(&[2, 3], 1.0)).unwrap();
    for shape in [&[3, 2][..], &[6], &[2, 4]] {
        let e = s.accumulate(w, Tensor::zeros(shape)).unwrap_err().to_string();
        let expected = format!("accumulate: expected shape a gradient of [2, 3] for `w`, found {shape:?}");
        assert_eq!(e, expected);
    }
    s.accumulate(w, Tensor::full(&[2, 3], 1.0)).unwrap();
    assert_eq!(s.grad(w).unwrap().data(), [2.0; 6]);
}

#[test]
fn codes_are_those_of_the_value_as_it_is() {
    let mut s = Store::seeded(0);
    let w = s.add("w", Group::Latent, Tensor::zeros(&[2])).unwrap();
    let scale = s.add("w.scale", Group::Scale, Tensor::scalar(1.0)).unwrap();
    let range = fixnet_tensor::Range::symmetric(4).unwrap();
    let codes = Codes::from_levels(&[2], range, 1.0, &[1, 2]).unwrap();
    let fresh = |s: &Store| s.codes(w, Some(scale)).is_some();
    let set = |s: &mut Store| s.set_codes(w, codes.clone());
    assert!(!fresh(&s));
    set(&mut s);
    assert!(fresh(&s));
    // Whatever opens the value or the scale for writing voids them for products; transitions still count from them.
    s.param_mut(w).value.data_mut()[0] = 1.0;
    assert!(!fresh(&s) && s.param(w).codes().is_some());
    set(&mut s);
    s.param_mut(scale).value = Tensor::scalar(2.0);
    assert!(!fresh(&s));
    set(&mut s);
    s.set_lr_factor(w, 0.5);
    s.accumulate(w, Tensor::zeros(&[2])).unwrap();
    assert!(fresh(&s) && s.take_grad(w).is_some());
    s.set_value("w", Tensor::zeros(&[2])).unwrap();
    assert!(!fresh(&s) && s.param(w).codes().is_none());
}

#[test]
fn parameters_beyond_the_budget_or_other_than_expected_are_refused_before_they_are_made() {
    let mut s = Store::seeded(0);
    // 2^34 numbers, and a product that wraps to 4.
    for shape in [&[1 << 17, 1 << 17][..], &[1 << 33, 1 << 33]] {
        let e = s.add_normal("w", Group::Weight, shape, 1.0).unwrap_err().to_string();
        assert!(e.starts_with("parameter `w`: [") && e.contains("expected at most 8589934592"), "{e}");
    }
    let mut s = Store::seeded(0).within(Budget::new(40, "take fewer"));
    s.add("a", Group::Weight, Tensor::zeros(&[6])).unwrap();
    let e = s.add_normal("b", Group::Weight, &[5], 1.0).unwrap_err().to_string();
    assert!(e.ends_with("claims 20 bytes of memory, expected at most 16 (of 40 in all); take fewer"), "{e}");
    let shapes = BTreeMap::from([("a".to_string(), vec![2, 3])]);
    let mut s = Store::seeded(0).expecting(shapes, "run/c.safetensors");
    let e = s.add_normal("a", Group::Weight, &[30_000, 30_000], 1.0).unwrap_err().to_string();
    assert_eq!(e, "state `a`: expected f32 [30000, 30000], found f32 [2, 3] in run/c.safetensors");
    let e = s.add_normal("b", Group::Weight, &[30_000, 30_000], 1.0).unwrap_err().to_string();
    assert_eq!(e, "state `b`: expected f32 [30000, 30000], found none in run/c.safetensors");
    s.add_normal("a", Group::Weight, &[2, 3], 1.0).unwrap();
}
