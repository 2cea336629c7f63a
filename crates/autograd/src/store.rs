//! `Store`: everything that outlives a step. Layers hold ids into it and nothing else, so a checkpoint of the store
//! forgets nothing.

mod gradients;
mod param;
mod streams;

pub use param::{Array, Group, Param, ParamId, Slot, State};

use crate::{Error, Result};
use fixnet_tensor::rng::{Stream, domain};
use fixnet_tensor::{Budget, Codes, Tensor};
use std::any::Any;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use streams::Streams;

/// Which store: what is made in one is refused by others. It lasts as long as the process and reaches no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoreId(u64);

/// The shapes that parameters must have, and the file that says so.
struct Expected {
    shapes: BTreeMap<String, Vec<usize>>,
    place: String,
}

/// Parameters, gradients and state of a model, with the seed and the number of the current step.
pub struct Store {
    id: StoreId,
    seed: u64,
    step: u64,
    params: Vec<Param>,
    slots: Vec<(String, Box<dyn State>)>,
    initial: BTreeMap<String, Tensor>,
    /// What models offered in place of first values.
    offered: BTreeMap<String, Tensor>,
    expected: Option<Expected>,
    budget: Budget,
    streams: Streams,
    /// How often a value was opened for writing.
    changes: u64,
}

impl Store {
    /// An empty store. All randomness of the model and its training follows from `seed`.
    pub fn seeded(seed: u64) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            id: StoreId(NEXT.fetch_add(1, Ordering::Relaxed)),
            seed,
            step: 0,
            params: Vec::new(),
            slots: Vec::new(),
            initial: BTreeMap::new(),
            offered: BTreeMap::new(),
            expected: None,
            budget: Budget::MODEL,
            streams: Streams::default(),
            changes: 0,
        }
    }

    /// Which store this is.
    pub fn id(&self) -> StoreId {
        self.id
    }

    /// Checks that a parameter, a state or what remembers this store's [`id`](Self::id) belongs here.
    ///
    /// # Errors
    /// It was made in another store.
    pub fn owns(&self, part: impl Into<StoreId>) -> Result<()> {
        match part.into() == self.id {
            true => Ok(()),
            false => Err(Error::setting(
                "the store of a parameter, a layer or an optimizer",
                "the one that it was made with",
                "another one",
            )),
        }
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

    /// As [`starting_from`](Self::starting_from), for one parameter that is still to be added: a model that comes with its
    /// numbers calls it while it is built. Weights to start from come first, where they have the shape of the parameter.
    pub fn offer(&mut self, name: &str, value: Tensor) {
        self.offered.insert(name.to_string(), value);
    }

    /// The shapes that parameters still to be added must have, by name, as `place` says: a checkpoint that is to be
    /// restored. A model that does not fit is refused at its first odd parameter, before there is memory for it.
    #[must_use]
    pub fn expecting(self, shapes: BTreeMap<String, Vec<usize>>, place: impl Into<String>) -> Self {
        Self { expected: Some(Expected { shapes, place: place.into() }), ..self }
    }

    /// Gives all parameters together this much memory in place of [`Budget::MODEL`].
    #[must_use]
    pub fn within(self, budget: Budget) -> Self {
        Self { budget, ..self }
    }

    /// How many optimizer steps were taken.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Counts one optimizer step. Optimizers call this at the end of theirs.
    pub fn advance(&mut self) {
        self.set_step(self.step + 1);
    }

    /// Puts the step back, as a checkpoint has it.
    pub fn set_step(&mut self, step: u64) {
        self.step = step;
        self.streams.restart();
    }

    /// Gives `name` rounding noise of its own; a quantized layer does so when it is made. Where two names share a hash, the
    /// order in which they come here tells them apart.
    pub fn add_noise(&mut self, name: &str) {
        self.streams.number(domain::ROUNDING, name);
    }

    /// How often `name` drew rounding noise since the last step or [`zero_grad`](Self::zero_grad): the number of its next
    /// draw, 0 for the first.
    pub fn draws(&self, name: &str) -> u32 {
        self.streams.draws(domain::ROUNDING, name)
    }

    /// The rounding noise of `name` for this step and this draw: a function of the seed, the name, the step, and how often
    /// `name` drew in it before. So the second pass of a step that accumulates gradients, or the second use of a layer in
    /// one pass, has other noise than the first.
    pub(crate) fn noise(&mut self, name: &str) -> Stream {
        self.draw(domain::ROUNDING, name)
    }

    /// As [`noise`](Self::noise), of any domain of random numbers. Each domain counts draws of its own.
    pub(crate) fn draw(&mut self, domain: u32, name: &str) -> Stream {
        let (number, draw) = (self.streams.number(domain, name), self.streams.draw(domain, name));
        let (low, high) = (self.step as u32, (self.step >> 32) as u32);
        Stream::new(self.seed, domain, streams::name_hash(name), low).within([high, draw, number, 0])
    }

    /// Whether a parameter of this name and shape may be added: asked before there is memory for it.
    fn admit(&mut self, name: &str, shape: &[usize]) -> Result<()> {
        self.name_is_free(name)?;
        if let Some(Expected { shapes, place }) = &self.expected {
            let found = match shapes.get(name) {
                Some(found) if found == shape => None,
                Some(found) => Some(format!("f32 {found:?} in {place}")),
                None => Some(format!("none in {place}")),
            };
            if let Some(found) = found {
                return Err(Error::State { name: name.into(), expected: format!("f32 {shape:?}"), found });
            }
        }
        self.budget.claim(&format!("parameter `{name}`"), shape, size_of::<f32>())?;
        Ok(())
    }

    fn name_is_free(&self, name: &str) -> Result<()> {
        let taken = self.params.iter().any(|p| p.name == name) || self.slots.iter().any(|(n, _)| n == name);
        if taken { Err(Error::DuplicateName(name.to_string())) } else { Ok(()) }
    }

    /// Adds a parameter.
    ///
    /// # Errors
    /// The name is taken; all parameters together are beyond [`within`](Self::within); or the shape is not the one that is
    /// [expected](Self::expecting).
    pub fn add(&mut self, name: &str, group: Group, value: Tensor) -> Result<ParamId> {
        self.admit(name, value.shape())?;
        Ok(self.push(name, group, value))
    }

    fn push(&mut self, name: &str, group: Group, value: Tensor) -> ParamId {
        let given = [self.initial.remove(name), self.offered.remove(name)];
        let fits = |given: &Tensor| group != Group::Scale && given.shape() == value.shape();
        let value = given.into_iter().flatten().find(fits).unwrap_or(value);
        let name = name.to_string();
        self.params.push(Param {
            name,
            group,
            value,
            grad: None,
            codes: None,
            changed: 0,
            coded: 0,
            lr_factor: 1.0,
            frozen: false,
        });
        ParamId { store: self.id, index: self.params.len() - 1 }
    }

    /// Adds a parameter of normal random numbers with standard deviation `std`, a function of the seed and the name.
    ///
    /// # Errors
    /// As [`add`](Self::add), before memory is taken.
    pub fn add_normal(&mut self, name: &str, group: Group, shape: &[usize], std: f32) -> Result<ParamId> {
        self.admit(name, shape)?;
        let number = self.streams.number(domain::INIT, name);
        let stream = Stream::new(self.seed, domain::INIT, streams::name_hash(name), 0).within([0, 0, number, 0]);
        let mut value = Tensor::take(shape);
        value.data_mut().iter_mut().enumerate().for_each(|(i, v)| *v = stream.normal_at(i as u64) * std);
        Ok(self.push(name, group, value))
    }

    /// The place of a parameter.
    #[inline]
    fn at(&self, id: ParamId) -> usize {
        if let Err(e) = self.owns(id) {
            panic!("{e}");
        }
        id.index
    }

    /// A parameter.
    ///
    /// # Panics
    /// It is of another store: see [`owns`](Self::owns).
    pub fn param(&self, id: ParamId) -> &Param {
        &self.params[self.at(id)]
    }

    /// A parameter, for writing. Codes that were made of its value before are no longer used.
    ///
    /// # Panics
    /// As [`param`](Self::param).
    pub fn param_mut(&mut self, id: ParamId) -> &mut Param {
        let index = self.at(id);
        self.changes += 1;
        let param = &mut self.params[index];
        param.changed = self.changes;
        param
    }

    /// The codes of the latent weight `id`, if they were made of its value, and of that of its `scale`, as they are now.
    ///
    /// # Panics
    /// As [`param`](Self::param).
    pub fn codes(&self, id: ParamId, scale: Option<ParamId>) -> Option<&Codes> {
        let param = self.param(id);
        let changed = scale.map_or(0, |scale| self.param(scale).changed).max(param.changed);
        param.codes.as_ref().filter(|_| changed <= param.coded)
    }

    /// Keeps the codes that were made of the latent weight `id` as it is now.
    ///
    /// # Panics
    /// As [`param`](Self::param).
    pub fn set_codes(&mut self, id: ParamId, codes: Codes) {
        let (index, now) = (self.at(id), self.changes);
        (self.params[index].codes, self.params[index].coded) = (Some(codes), now);
    }

    /// Sets what an optimizer multiplies the learning rate of a parameter by.
    ///
    /// # Panics
    /// As [`param`](Self::param).
    pub fn set_lr_factor(&mut self, id: ParamId, factor: f32) {
        let index = self.at(id);
        self.params[index].lr_factor = factor;
    }

    /// Freezes a parameter, or lets it go. A frozen one counts as a constant: graphs give it no gradient, and what depends on
    /// frozen parameters and inputs alone is not recorded. It is a setting of the model, which checkpoints do not have.
    ///
    /// # Panics
    /// As [`param`](Self::param).
    pub fn set_frozen(&mut self, id: ParamId, frozen: bool) {
        let index = self.at(id);
        self.params[index].frozen = frozen;
    }

    /// The address of the parameter called `name`.
    ///
    /// # Errors
    /// There is none.
    pub fn find(&self, name: &str) -> Result<ParamId> {
        let found = self.params.iter().position(|p| p.name == name);
        found.map(|index| ParamId { store: self.id, index }).ok_or_else(|| Error::State {
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
        Ok(&self.params[self.find(name)?.index].value)
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
        self.param_mut(id).replace(value)
    }

    /// All parameters in the order in which they were added.
    pub fn params(&self) -> &[Param] {
        &self.params
    }

    /// The addresses of all parameters, in order.
    pub fn ids(&self) -> impl Iterator<Item = ParamId> + use<> {
        let store = self.id;
        (0..self.params.len()).map(move |index| ParamId { store, index })
    }

    /// Adds state of any type.
    ///
    /// # Errors
    /// The name is taken.
    pub fn add_state<T: State>(&mut self, name: &str, state: T) -> Result<Slot<T>> {
        self.name_is_free(name)?;
        self.slots.push((name.to_string(), Box::new(state)));
        Ok(Slot { store: self.id, index: self.slots.len() - 1, of: PhantomData })
    }

    /// The state in a slot.
    ///
    /// # Panics
    /// It is of another store: see [`owns`](Self::owns).
    pub fn state<T: State>(&self, slot: Slot<T>) -> &T {
        if let Err(e) = self.owns(slot) {
            panic!("{e}");
        }
        let any: &dyn Any = &*self.slots[slot.index].1;
        any.downcast_ref().expect("a slot holds the type that it was made with")
    }

    /// The state in a slot, for writing.
    ///
    /// # Panics
    /// As [`state`](Self::state).
    pub fn state_mut<T: State>(&mut self, slot: Slot<T>) -> &mut T {
        if let Err(e) = self.owns(slot) {
            panic!("{e}");
        }
        let any: &mut dyn Any = &mut *self.slots[slot.index].1;
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
        self.changes += 1;
        self.streams.restart();
        for p in &mut self.params {
            p.changed = self.changes;
            match get(&p.name) {
                Some(Array::F32(t)) => p.replace(t)?,
                Some(Array::U64(v)) => return Err(p.misfit(format!("u64 [{}]", v.len()))),
                Some(Array::I64(_)) => return Err(p.misfit("i64 []".into())),
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

#[cfg(test)]
mod tests;
