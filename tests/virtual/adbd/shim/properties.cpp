// Android's properties for an adbd that is linked to glibc: one file each, where the phone's getprop reads them too.

#include <android-base/properties.h>

#include <android-base/file.h>
#include <android-base/parsebool.h>

namespace android {
namespace base {

std::string GetProperty(const std::string& key, const std::string& default_value) {
    std::string value;
    if (!ReadFileToString("/dev/__properties__/" + key, &value)) return default_value;
    while (!value.empty() && value.back() == '\n') value.pop_back();
    return value.empty() ? default_value : value;
}

bool GetBoolProperty(const std::string& key, bool default_value) {
    switch (ParseBool(GetProperty(key, ""))) {
        case ParseBoolResult::kTrue:
            return true;
        case ParseBoolResult::kFalse:
            return false;
        default:
            return default_value;
    }
}

}  // namespace base
}  // namespace android
