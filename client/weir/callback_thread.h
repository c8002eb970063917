// Whether this thread is inside a request's callback, where waiting for
// another request could wait for ever.
#ifndef WEIR_CLIENT_WEIR_CALLBACK_THREAD_H_
#define WEIR_CLIENT_WEIR_CALLBACK_THREAD_H_

namespace weir {

// Marks the current thread while it lives. Nests.
class InCallback {
 public:
  InCallback() { ++depth_; }
  ~InCallback() { --depth_; }
  InCallback(const InCallback&) = delete;
  InCallback& operator=(const InCallback&) = delete;

  static bool Active() { return depth_ > 0; }

 private:
  static inline thread_local int depth_ = 0;
};

}  // namespace weir

#endif  // WEIR_CLIENT_WEIR_CALLBACK_THREAD_H_
