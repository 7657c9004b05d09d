// A step of a computation whose gradient is the program's own, in libtorch's graph of gradients.
//
// No exception leaves a function that mod.rs calls, and no panic one that it gives.

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/variable.h>

#include <cstring>
#include <memory>
#include <mutex>

namespace {

using torch::autograd::variable_list;

constexpr long MESSAGE = 1024;  // bytes, with a zero at their end

struct Closure {  // as in mod.rs
    void *place;
    /// Takes the gradient of the output, and gives those of the inputs, or a message.
    bool (*call)(void *place, at::Tensor *gradient, at::Tensor **gradients, long count, char *message, long size);
    void (*drop)(void *place);
};

class Recorded final : public torch::autograd::Node {
  public:
    Recorded(Closure closure, const variable_list &inputs)
        : Node(torch::autograd::collect_next_edges(inputs)), closure(closure), count(inputs.size()) {}
    ~Recorded() override { release_variables(); }

    std::string name() const override { return "tweedie::Recorded"; }

    void release_variables() override {
        std::lock_guard<std::mutex> lock(mutex_);
        if (closure.place) closure.drop(closure.place);
        closure.place = nullptr;
    }

  protected:
    variable_list apply(variable_list &&gradients) override {
        std::lock_guard<std::mutex> lock(mutex_);
        TORCH_CHECK(closure.place, "a gradient is asked for a second time, but the first was not told to keep its graph");
        TORCH_CHECK(!at::GradMode::is_enabled(),
                    "a gradient that kernels compute cannot be differentiated again: --exact leaves it to libtorch");
        variable_list answers(count);
        if (!gradients[0].defined()) return answers;
        std::vector<at::Tensor *> found(count, nullptr);
        char message[MESSAGE] = "";
        auto *gradient = new at::Tensor(std::move(gradients[0]));
        const bool done = closure.call(closure.place, gradient, found.data(), count, message, MESSAGE);
        for (size_t i = 0; i < count; i++)
            if (found[i]) answers[i] = *std::unique_ptr<at::Tensor>(found[i]);
        TORCH_CHECK(done, message);
        return answers;
    }

  private:
    Closure closure;
    size_t count;
};

}  // namespace

extern "C" {

/// Whether gradients are recorded in this thread.
bool tweedie_recording() { return at::GradMode::is_enabled(); }

/// The output as a function of the inputs, with this way back, which is dropped when nobody can ask for it any more; or
/// nothing, and a message.
at::Tensor *tweedie_record(const at::Tensor *output, at::Tensor *const *inputs, long count, Closure closure, char *message,
                           long size) {
    try {
        variable_list all;
        for (long i = 0; i < count; i++) all.push_back(*inputs[i]);
        std::shared_ptr<Recorded> node(new Recorded(closure, all), torch::autograd::deleteNode);
        // Not a view of anything: those answer to their base.
        auto recorded = std::make_unique<at::Tensor>(output->variable_data());
        torch::autograd::set_history(*recorded, node);
        return recorded.release();
    } catch (const std::exception &e) {
        std::strncpy(message, e.what(), size - 1);
        return nullptr;
    }
}
}
