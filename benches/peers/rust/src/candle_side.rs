//! The two networks in candle. Its SGD has no momentum, so the update is written out.

use crate::{BATCH, CLASSES, DECAY, LR, MOMENTUM, Step, images};
use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{
    BatchNorm, Conv2d, Conv2dConfig, Linear, Module, ModuleT, VarBuilder, VarMap, batch_norm, conv2d_no_bias, linear,
    loss::cross_entropy,
};

struct Net {
    convs: Vec<(Conv2d, BatchNorm)>,
    hidden: Vec<(Linear, BatchNorm)>,
    classifier: Linear,
}

impl Net {
    fn new(channels: &[usize], widths: &[usize], vb: &VarBuilder) -> Result<Self> {
        let config = Conv2dConfig { padding: 2, ..Conv2dConfig::default() };
        let conv = |(i, c): (usize, &[usize])| {
            let conv = conv2d_no_bias(c[0], c[1], 5, config, vb.pp(format!("conv{i}")))?;
            Ok((conv, batch_norm(c[1], 1e-5, vb.pp(format!("conv_norm{i}")))?))
        };
        let hidden = |(i, c): (usize, &[usize])| {
            Ok((linear(c[0], c[1], vb.pp(format!("fc{i}")))?, batch_norm(c[1], 1e-5, vb.pp(format!("norm{i}")))?))
        };
        Ok(Self {
            convs: channels.windows(2).enumerate().map(conv).collect::<Result<_>>()?,
            hidden: widths.windows(2).enumerate().map(hidden).collect::<Result<_>>()?,
            classifier: linear(widths[widths.len() - 1], CLASSES, vb.pp("classifier"))?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = x.clone();
        for (conv, norm) in &self.convs {
            x = norm.forward_t(&conv.forward(&x)?, true)?.relu()?.max_pool2d(2)?;
        }
        let mut x = x.flatten_from(1)?;
        for (linear, norm) in &self.hidden {
            x = norm.forward_t(&linear.forward(&x)?, true)?.relu()?;
        }
        self.classifier.forward(&x)
    }
}

pub fn training(lenet: bool) -> Result<Step> {
    let device = Device::Cpu;
    let vars = VarMap::new();
    let vb = VarBuilder::from_varmap(&vars, DType::F32, &device);
    let net = match lenet {
        true => Net::new(&[1, 32, 64], &[64 * 49, 128], &vb)?,
        false => Net::new(&[], &[784, 512, 512], &vb)?,
    };
    let x = Tensor::from_vec(images(), (BATCH, 1, 28, 28), &device)?;
    let labels: Vec<u32> = (0..BATCH as u32).map(|i| i % CLASSES as u32).collect();
    let labels = Tensor::from_vec(labels, BATCH, &device)?;
    let vars: Vec<Var> = vars.all_vars();
    let mut moving = vars.iter().map(|v| v.zeros_like()).collect::<Result<Vec<_>>>()?;
    Ok(Box::new(move || {
        let loss = cross_entropy(&net.forward(&x)?, &labels)?;
        let grads = loss.backward()?;
        for (var, v) in vars.iter().zip(&mut moving) {
            // Running statistics have no gradient.
            let Some(grad) = grads.get(var) else { continue };
            let grad = (grad + (var.as_tensor() * DECAY)?)?;
            *v = ((&*v * MOMENTUM)? + grad)?.detach();
            var.set(&(var.as_tensor() - (&*v * LR)?)?)?;
        }
        Ok(loss.to_scalar()?)
    }))
}
