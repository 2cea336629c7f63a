//! `Store`: everything that outlives a step. Layers hold ids into it and nothing else, so a checkpoint of the store
//! forgets nothing.

use crate::{Error, Result};
use fixnet_tensor::rng::{Stream, domain};
use fixnet_tensor::{Codes, Tensor, map};
use std::any::Any;
use std::collections::BTreeMap;
use std::marker::PhantomData;

/// What a parameter is, which decides how an optimizer treats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// The latent weight of a quantized layer.
    Latent,
    /// The weight of a layer that is not quantized.
    Weight,
    /// A bias, or a parameter of a normalization: no weight decay.
    Offset,
    /// The learned scale of a quantizer.
    Scale,
}

/// A named parameter with its gradient and, for a latent weight, its codes.
#[derive(Debug)]
pub struct Param {
    name: String,
    group: Group,
    /// The value, full precision.
    pub value: Tensor,
    /// The gradient of the last backward pass, until an optimizer takes it.
    pub grad: Option<Tensor>,
    /// The integers that products use in place of a latent weight; `None` until it is quantized.
    pub codes: Option<Codes>,
    /// What an optimizer multiplies this parameter's learning rate by. Set anew in each backward pass, by an operation
    /// that has reason to (the DSGC rule for gradients); 1 otherwise.
    pub lr_factor: f32,
}

impl Param {
    /// The name, unique in the store; the key in a checkpoint.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What kind of parameter this is.
    pub fn group(&self) -> Group {
        self.group
    }

    /// Takes another value, which voids what followed from the old one.
    fn replace(&mut self, value: Tensor) -> Result<()> {
        if value.shape() != self.value.shape() {
            return Err(self.misfit(format!("f32 {:?}", value.shape())));
        }
        (self.value, self.grad, self.codes) = (value, None, None);
        Ok(())
    }

    fn misfit(&self, found: String) -> Error {
        Error::State { name: self.name.clone(), expected: format!("f32 {:?}", self.value.shape()), found }
    }
}

/// The address of a parameter in its store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ParamId(usize);

/// A value that a [`State`] saves.
#[derive(Debug, Clone)]
pub enum Array {
    /// Floats with a shape.
    F32(Tensor),
    /// A list of whole numbers.
    U64(Vec<u64>),
}

/// State beyond parameters: clipping factors, running statistics, and so on.
pub trait State: Any + Send {
    /// Every number that the next step depends on, under names unique in this state.
    fn save(&self) -> Vec<(&'static str, Array)>;
    /// Takes the saved numbers back; `get` gives the array of a name.
    ///
    /// # Errors
    /// An array is missing or has another form: the message says what was expected.
    fn load(&mut self, get: &mut dyn FnMut(&str) -> Option<Array>) -> std::result::Result<(), String>;
}

/// The typed address of a [`State`] in its store.
#[derive(Debug)]
pub struct Slot<T>(usize, PhantomData<fn() -> T>);

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Slot<T> {}

/// Parameters, gradients and state of a model, with the seed and the number of the current step.
pub struct Store {
    seed: u64,
    step: u64,
    params: Vec<Param>,
    slots: Vec<(String, Box<dyn State>)>,
    initial: BTreeMap<String, Tensor>,
}

impl Store {
    /// An empty store. All randomness of the model and its training follows from `seed`.
    pub fn seeded(seed: u64) -> Self {
        Self { seed, step: 0, params: Vec::new(), slots: Vec::new(), initial: BTreeMap::new() }
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Values for parameters that are still to be added, by name: pretrained weights, say. One that has the shape of its
    /// parameter takes the place of the parameter's own first value. Quantizers that come after their weight thus take
    /// their first scale from these values; scales themselves ([`Group::Scale`]) never start from them.
    #[must_use]
    pub fn starting_from(self, initial: BTreeMap<String, Tensor>) -> Self {
        Self { initial, ..self }
    }

    /// How many optimizer steps were taken.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Counts one optimizer step. Optimizers call this at the end of theirs.
    pub fn advance(&mut self) {
        self.step += 1;
    }

    /// Puts the step back, as a checkpoint has it.
    pub fn set_step(&mut self, step: u64) {
        self.step = step;
    }

    fn name_is_free(&self, name: &str) -> Result<()> {
        let taken = self.params.iter().any(|p| p.name == name) || self.slots.iter().any(|(n, _)| n == name);
        if taken { Err(Error::DuplicateName(name.to_string())) } else { Ok(()) }
    }

    /// Adds a parameter.
    ///
    /// # Errors
    /// The name is taken.
    pub fn add(&mut self, name: &str, group: Group, value: Tensor) -> Result<ParamId> {
        self.name_is_free(name)?;
        let value = match self.initial.remove(name) {
            Some(initial) if group != Group::Scale && initial.shape() == value.shape() => initial,
            _ => value,
        };
        self.params.push(Param { name: name.to_string(), group, value, grad: None, codes: None, lr_factor: 1.0 });
        Ok(ParamId(self.params.len() - 1))
    }

    /// Adds a parameter of normal random numbers with standard deviation `std`, a function of the seed and the name.
    ///
    /// # Errors
    /// The name is taken, or there are more than 2^31 elements.
    pub fn add_normal(&mut self, name: &str, group: Group, shape: &[usize], std: f32) -> Result<ParamId> {
        let elements = shape.iter().try_fold(1usize, |all, &n| all.checked_mul(n));
        if elements.is_none_or(|n| n as u64 > 1 << 31) {
            return Err(
                Error::setting("shape of a weight", "at most 2^31 elements", format!("{shape:?}")).in_layer(name)
            );
        }
        let stream = Stream::new(self.seed, domain::INIT, name_hash(name), 0);
        let mut value = Tensor::take(shape);
        value.data_mut().iter_mut().enumerate().for_each(|(i, v)| *v = stream.normal_at(i as u64) * std);
        self.add(name, group, value)
    }

    /// A parameter.
    pub fn param(&self, id: ParamId) -> &Param {
        &self.params[id.0]
    }

    /// A parameter, for writing.
    pub fn param_mut(&mut self, id: ParamId) -> &mut Param {
        &mut self.params[id.0]
    }

    /// The address of the parameter called `name`.
    ///
    /// # Errors
    /// There is none.
    pub fn find(&self, name: &str) -> Result<ParamId> {
        let found = self.params.iter().position(|p| p.name == name);
        found.map(ParamId).ok_or_else(|| Error::State {
            name: name.into(),
            expected: "a parameter".into(),
            found: "none of this name".into(),
        })
    }

    /// The value of the parameter called `name`: of a quantized layer the latent weight.
    ///
    /// # Errors
    /// There is none.
    pub fn value(&self, name: &str) -> Result<&Tensor> {
        Ok(&self.params[self.find(name)?.0].value)
    }

    /// Gives the parameter called `name` another value of the same shape. Codes follow from it in the next forward pass.
    ///
    /// # Errors
    /// There is none of this name, or its shape is another one.
    ///
    /// ```
    /// use fixnet_autograd::{Group, Store};
    /// use fixnet_tensor::Tensor;
    /// let mut store = Store::seeded(1);
    /// store.add("fc.bias", Group::Offset, Tensor::zeros(&[3]))?;
    /// store.set_value("fc.bias", Tensor::full(&[3], 0.5))?;
    /// assert_eq!(store.value("fc.bias")?.data(), [0.5; 3]);
    /// # Ok::<(), fixnet_autograd::Error>(())
    /// ```
    pub fn set_value(&mut self, name: &str, value: Tensor) -> Result<()> {
        let id = self.find(name)?;
        self.params[id.0].replace(value)
    }

    /// The gradient of a parameter, if the last backward pass reached it.
    pub fn grad(&self, id: ParamId) -> Option<&Tensor> {
        self.params[id.0].grad.as_ref()
    }

    /// All parameters in the order in which they were added.
    pub fn params(&self) -> &[Param] {
        &self.params
    }

    /// The addresses of all parameters, in order.
    pub fn ids(&self) -> impl Iterator<Item = ParamId> + use<> {
        (0..self.params.len()).map(ParamId)
    }

    /// Adds to the gradient of a parameter.
    pub fn accumulate(&mut self, id: ParamId, grad: Tensor) {
        match &mut self.params[id.0].grad {
            Some(sum) => map::update1(sum.data_mut(), grad.data(), |s, g| *s += g),
            none => *none = Some(grad),
        }
    }

    /// Forgets all gradients.
    pub fn zero_grad(&mut self) {
        self.params.iter_mut().for_each(|p| p.grad = None);
    }

    /// Adds state of any type.
    ///
    /// # Errors
    /// The name is taken.
    pub fn add_state<T: State>(&mut self, name: &str, state: T) -> Result<Slot<T>> {
        self.name_is_free(name)?;
        self.slots.push((name.to_string(), Box::new(state)));
        Ok(Slot(self.slots.len() - 1, PhantomData))
    }

    /// The state in a slot.
    pub fn state<T: State>(&self, slot: Slot<T>) -> &T {
        let any: &dyn Any = &*self.slots[slot.0].1;
        any.downcast_ref().expect("a slot holds the type that it was made with")
    }

    /// The state in a slot, for writing.
    pub fn state_mut<T: State>(&mut self, slot: Slot<T>) -> &mut T {
        let any: &mut dyn Any = &mut *self.slots[slot.0].1;
        any.downcast_mut().expect("a slot holds the type that it was made with")
    }

    /// All states of type `T` with their names, in the order in which they were added.
    pub fn states<T: State>(&self) -> impl Iterator<Item = (&str, &T)> {
        self.slots.iter().filter_map(|(name, state)| {
            let any: &dyn Any = &**state;
            any.downcast_ref().map(|s| (name.as_str(), s))
        })
    }

    /// All states of type `T` with their names, for writing.
    pub fn states_mut<T: State>(&mut self) -> impl Iterator<Item = (&str, &mut T)> {
        self.slots.iter_mut().filter_map(|(name, state)| {
            let any: &mut dyn Any = &mut **state;
            any.downcast_mut().map(|s| (name.as_str(), s))
        })
    }

    /// Every number of the model by name, in a fixed order: parameters, then state (running statistics, clipping factors).
    /// What a checkpoint holds. For one parameter see [`value`](Self::value) and [`set_value`](Self::set_value).
    pub fn state_dict(&self) -> Vec<(String, Array)> {
        let params = self.params.iter().map(|p| (p.name.clone(), Array::F32(p.value.clone())));
        let states = self.slots.iter().flat_map(|(name, state)| {
            state.save().into_iter().map(move |(key, array)| (format!("{name}.{key}"), array))
        });
        params.chain(states).collect()
    }

    /// Takes back what [`state_dict`](Self::state_dict) gave; `get` gives the array of a name. Codes are dropped: they follow
    /// from the latents.
    ///
    /// ```
    /// use fixnet_autograd::{Group, Store};
    /// use fixnet_tensor::Tensor;
    /// use std::collections::BTreeMap;
    /// let build = |store: &mut Store| store.add_normal("fc.weight", Group::Weight, &[2, 3], 1.0);
    /// let (mut a, mut b) = (Store::seeded(1), Store::seeded(2));
    /// build(&mut a)?;
    /// build(&mut b)?;
    /// let numbers: BTreeMap<_, _> = a.state_dict().into_iter().collect();
    /// b.load_state_dict(|name| numbers.get(name).cloned())?;
    /// assert_eq!(b.value("fc.weight")?.data(), a.value("fc.weight")?.data());
    /// # Ok::<(), fixnet_autograd::Error>(())
    /// ```
    ///
    /// # Errors
    /// A name is missing or a shape differs; the store may then hold a part of the new values.
    pub fn load_state_dict(&mut self, mut get: impl FnMut(&str) -> Option<Array>) -> Result<()> {
        for p in &mut self.params {
            match get(&p.name) {
                Some(Array::F32(t)) => p.replace(t)?,
                Some(Array::U64(v)) => return Err(p.misfit(format!("u64 [{}]", v.len()))),
                None => return Err(p.misfit("nothing".into())),
            }
        }
        for (name, state) in &mut self.slots {
            let mut fetch = |key: &str| get(&format!("{name}.{key}"));
            state.load(&mut fetch).map_err(|expected| Error::State {
                name: name.clone(),
                expected,
                found: "another form, or nothing".into(),
            })?;
        }
        Ok(())
    }
}

/// A 32-bit FNV-1a hash of a name: the stream of random numbers that belongs to it.
pub(crate) fn name_hash(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
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
        let (mut b, ..) = model();
        b.load_state_dict(|name| dict.iter().find(|(n, _)| n == name).map(|(_, a)| a.clone())).unwrap();
        assert_eq!((b.param(w).value.data(), b.state(c).0), (a.param(w).value.data(), 5));
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
        let (other, ..) = model();
        assert_eq!(s.param(w).value.data(), other.param(w).value.data());
        let x = s.add_normal("x", Group::Weight, &[2, 3], 1.0).unwrap();
        assert_ne!(s.param(w).value.data(), s.param(x).value.data());
    }
}
