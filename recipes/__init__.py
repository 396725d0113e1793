"""Trainings as TOML, one file each; `tet_deploy.training.load_recipe` reads them by these names.

A recipe says what is trained: network, data, augmentation, seed, and one or more stages. A later stage inherits the weights
of the one before: time inheritance training (TIT) is a stage at a small T and then a short one at the target T. Device,
processes and precision are no part of it. The values are those of Deng et al., ICLR 2022: section 5.2 and appendix A.1;
where the paper is silent, a comment in the file says what was chosen, and why.
"""

RECIPES = {  # name, which is also that of the file -> what it is
    "digits": "scikit-learn's digits as images, T = 4",
    "digits-tit": "scikit-learn's digits as images, T = 2, then T = 4",
    "event-digits": "scikit-learn's digits before a simulated event camera, T = 5",
    "cifar10-resnet19-t2": "table 3: CIFAR10, ResNet-19, T = 2: 94.16 +- 0.03 %",
    "cifar10-resnet19-t4": "table 3: CIFAR10, ResNet-19, T = 4: 94.44 +- 0.08 %",
    "cifar10-resnet19-t6": "table 3: CIFAR10, ResNet-19, T = 6: 94.50 +- 0.07 %",
    "cifar100-resnet19-t2": "table 3: CIFAR100, ResNet-19, T = 2: 72.87 +- 0.10 %",
    "cifar100-resnet19-t4": "table 3: CIFAR100, ResNet-19, T = 4: 74.47 +- 0.15 %",
    "cifar100-resnet19-t6": "table 3: CIFAR100, ResNet-19, T = 6: 74.72 +- 0.28 %",
    "imagenet-spiking-resnet34-t6": "table 3: ImageNet, Spiking-ResNet34, T = 6: 64.79 %",
    "imagenet-sew-resnet34-t4": "table 3: ImageNet, SEW-ResNet34, T = 4: 68.00 %",
    "dvs-cifar10-vgg-snn": "table 3: DVS-CIFAR10, VGGSNN, T = 10, no augmentation: 77.33 +- 0.21 %",
    "dvs-cifar10-vgg-snn-augmented": "table 3: DVS-CIFAR10, VGGSNN, T = 10, augmentation: 83.17 +- 0.15 %",
}
