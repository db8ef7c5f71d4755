"""The curvature of a loss: products with its Hessian, the Hessian's extreme eigenvalues, and its trace.

    H v = grad (d/de L(p + e v) at e = 0)      reverse mode over forward mode

where L is the loss, p the parameters, P their number, and v a direction. H is never formed: each product costs a few gradients,
and memory is a few vectors of P numbers. A loss without forward mode, because of a `jax.custom_vjp`, is differentiated in the
other order, d/de grad L(p + e v). The numbers are the same if both orders are defined and correct in JAX; see
`product.hessian_times`.

**Spikes.** Automatic differentiation takes the derivative of a spike to be its surrogate, and the second derivative to be the
derivative of this surrogate. So H of a spiking network describes the surrogate's calculus, not the actual loss as a function of
the parameters, which is piecewise constant in a spike's membrane. With the surrogates of slax_neurons, with others defined by
`jax.custom_jvp`, and with `jax.lax.stop_gradient`, this formal H is symmetric, as the second-order chain rule is. A gradient
that is not the derivative of a loss, such as one with a `jax.custom_vjp` that drops terms, is a field g, and H its Jacobian,
which in general is not symmetric. `Eigenvalues.asymmetry` measures this.
"""
