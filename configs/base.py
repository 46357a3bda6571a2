"""Every configuration key once, with its unit. Experiments change a few of them."""

import ml_collections
from ml_collections.config_dict import FieldReference, placeholder


def get_config() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.seed = 0

    config.data = ml_collections.ConfigDict(
        dict(
            source="strokes",  # omniglot, mnist, double_, triple_mnist, cifar100, celeba, strokes, one_dim, npz, folder
            split="back_eval",  # classes of train/val/test: back_eval, official, ns, alphabet, random
            resize="box",  # gmn, box: how an image becomes image_size; recorded in every result
            image_size=28,  # pixels, height and width
            channels=1,  # 1 or 3
            data_dir=placeholder(str),  # tfds data directory; None: TFDS_DATA_DIR or tfds's default
            family="gaussian",  # one_dim: gaussian, gaussian_mixture, von_mises, gamma, discrete
            path=placeholder(str),  # npz: the file; folder: the folder with one folder per class
            cache_dir=placeholder(str),  # resized arrays; None: ~/.cache/hfsgm_jax
            set_size=FieldReference(
                5, field_type=object
            ),  # images per set, |D|: an integer, or (low, high) drawn per set
            group_size=0,  # images of the class's group (alphabet) beside each set, |D^a|: hierarchical_vhe
            styles=0,  # random coloured pens that grey images are drawn in, each in its own (factorial_vhe)
            style_size=0,  # images of the target's style beside each set, |D^s|: factorial_vhe
            copies=1,  # images that each image counts for in |X|, where affine warps are new instances
            sets_per_batch=16,  # rows of the global batch
            heldout=0,  # images per training class kept out of training (in-distribution test)
            binarize="dynamic",  # none, dynamic (train: anew each time; evaluation: once, by eval.seed)
            stream=False,  # training sets from disk, not all images in memory (omniglot, mnist, cifar100, celeba)
            corrupt="refuse",  # folder: refuse or skip images that cannot be read
            flip=False,  # random horizontal and vertical flips, per set
            rotate=0.0,  # degrees: largest random rotation, per set
            affine=0.0,  # strength of a small random affine warp, per image (0.1: 10 %)
            dihedral=False,  # the 8 flips and quarter turns of a class count as 8 classes
            seed=0,  # of random splits and of procedural data
        )
    )

    config.model = ml_collections.ConfigDict(
        dict(
            # vae, bns, ns, cns, hfsgm, chfsgm, scha_vae, pixelcnn_vhe, factorial_vhe, hierarchical_vhe, one_dim
            name="scha_vae",
            width=128,  # features of every hidden layer
            encoder_width=64,  # all but scha_vae and VHE maps: features of the first convolutions (then twice, 4 times)
            c_channels=32,  # size of a shared latent (per position)
            z_channels=32,  # size of an image latent (per position)
            a_channels=64,  # hierarchical_vhe: size of a group's latent
            style_channels=6,  # factorial_vhe: size of a style's latent
            layers=3,  # stochastic layers L (scha_vae: given by `latents`)
            blocks=3,  # residual layers inside a latent block; VHE: convolutions of its decoder (scha_vae: not used)
            aggregate="mean",  # mean, max, lag: how a set's images become one feature
            heads=4,  # attention heads of lag
            condition="bias",  # bias, film: how c enters the image latents (ns to chfsgm)
            prior_sees_images=False,  # p(c_l) sees the mean of Z_{l+1} (eq. 3)
            encoder="32-9,16-6,8-6,4-6,2-3,1-3",  # scha_vae: resolution-blocks, high to low
            latents="8-6,4-6,2-3,1-3",  # scha_vae: resolution-layers, high to low
            decoder="32-9,16-6,8-6",  # scha_vae: resolution-blocks, high to low
            patch=1,  # scha_vae: side of the pixel patches the encoder starts from (1: pixels)
            border="pad",  # scha_vae, 28 pixels: pad (by 2, and crop) or nearest (resize to 32)
            decoder_context="full",  # scha_vae: full resolution of c, or top_left (reference code)
            context_kernel=0,  # pixelcnn_vhe: side of the convolution of q(c; D) (0: as large as the images)
            context_prior="stacks",  # pixelcnn_vhe: p(c): normal, or a PixelCNN in one of pixelcnn_form's forms
            prior_width=64,  # pixelcnn_vhe: features of that PixelCNN
            pixelcnn_layers=0,  # of an autoregressive decoder on top of the model's own (0: independent pixels)
            pixelcnn_width=64,  # its features
            pixelcnn_form="stacks",  # stacks (no blind spot), or masked (the VHE paper's)
            likelihood="bernoulli",  # bernoulli, discretized_normal, discretized_logistics; one_dim: as data.family
            known=(),  # one_dim: values of the last parameters of the likelihood; none: all are linear in c
            remat=False,  # scha_vae: recompute blocks in the backward pass: memory against time (not on CPU)
            dtype="float32",  # float32 or bfloat16 compute; parameters and heads stay float32
        )
    )

    config.objective = ml_collections.ConfigDict(
        dict(
            name="ns",  # ns, resample, rescale, vhe
            targets=placeholder(int),  # independent target images per set; None: as the context
            tightened=False,  # vhe: learn which images made the context (eq. 21); draws contexts with replacement
            embedding=32,  # tightened: numbers per training image
            alpha=0.0,  # loss = (1 + a) reconstruction + KL / (1 + a), a starts here
            alpha_decay=1.0,  # factor of a per epoch (train.steps_per_epoch)
            kl_warmup=0,  # steps over which the KL's weight grows from 0 to 1
            free_bits=0.0,  # nats per image of each set latent (KL_c / |D|) that cost nothing
        )
    )

    config.optimizer = ml_collections.ConfigDict(
        dict(
            name="adam",  # adam, adamw, adamax
            learning_rate=2e-4,  # at its highest
            schedule="constant",  # constant, cosine, step, plateau
            warmup=0,  # steps of linear warm-up
            decay_steps=0,  # cosine: its length (0: train.steps); step: steps between decays
            decay_factor=0.5,  # step, plateau: factor of a decay; cosine: final fraction
            patience=10,  # plateau: evaluations without improvement before a decay
            b1=0.9,
            b2=0.999,
            eps=1e-8,
            weight_decay=0.0,  # adamw: decoupled; adam, adamax: L2 added to the gradient
            clip="norm",  # norm, value, none
            clip_at=100.0,  # largest global norm, or absolute value of an element
            accumulate=1,  # parts the batch is split into, one after another (rows divide)
            ema=0.0,  # decay of the averaged parameters (0: off)
        )
    )

    config.train = ml_collections.ConfigDict(
        dict(
            steps=100_000,  # optimizer steps
            minutes=0.0,  # time budget, resumes included (0: none)
            steps_per_dispatch=1,  # optimizer steps per call of the compiled program
            log_every=100,  # steps
            eval_every=2_000,  # steps
            sample_every=10_000,  # steps between sample grids
            save_every=2_000,  # steps
            steps_per_epoch=0,  # 0: training images over images per batch
            keep=2,  # latest checkpoints kept, beside the best
            max_skipped=50,  # non-finite steps in a row before the run stops
            devices=0,  # devices used (0: all)
            cpu_devices=0,  # devices that a CPU counts as (0: one per core, as far as they divide the rows)
            progress=True,  # a progress bar on a terminal, lines otherwise
        )
    )

    config.eval = ml_collections.ConfigDict(
        dict(
            split="test",  # train, heldout, val, test
            source=placeholder(str),  # another source than data.source
            set_size=0,  # images per set (0: the training size, its upper end)
            max_sets=640,  # sets evaluated
            val_sets=320,  # sets of the validation during training
            sets_per_batch=16,  # sets (of the training size) evaluated at once: memory against speed, not the result
            estimator="joint",  # joint, nested (not where the prior of c sees images)
            importance_samples=1000,  # K, or K over c (nested)
            importance_samples_z=10,  # K over z, nested
            chunk=10,  # importance samples at once: memory against speed, not the result
            set_sizes=(1, 2, 5, 10, 20),  # cardinality and transfer: images per set
            transfer=("mnist", "double_mnist", "triple_mnist"),  # sources of other images (transfer, classify, sample)
            episodes=20,  # classify: episodes per setting
            ways=20,  # classify: classes per episode
            shots=(1, 5),  # classify: images per class
            within_alphabet=True,  # classify: also Lake's runs, where the data are Omniglot's evaluation characters
            queries=1,  # classify: queries per class and episode
            class_samples_c=20,  # classify: samples of c
            class_samples_z=10,  # classify: importance samples of z
            kl_layers="c1",  # classify: the context posteriors compared, c1 or all
            temperature=1.0,  # sample: factor on the noise of the latents
            iterations=20,  # sample: of refinement
            samples=20,  # sample: new images per class that numbers are computed from
            seed=0,
            step="best",  # best, last, or a number
        )
    )
    return config
