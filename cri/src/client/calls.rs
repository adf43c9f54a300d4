//! The calls of the interface, one method each.

use super::Client;
use crate::error::Result;
use crate::proto::{
    CheckpointContainerRequest, CheckpointContainerResponse, CheckpointPodRequest,
    CheckpointPodResponse, Container, ContainerConfig, ContainerFilter, ContainerStatusRequest,
    ContainerStatusResponse, CreateContainerRequest, CreateContainerResponse, Image, ImageSpec,
    ImageStatusRequest, ImageStatusResponse, Kept, ListContainersRequest, ListContainersResponse,
    ListPodSandboxRequest, ListPodSandboxResponse, PodSandbox, PodSandboxConfig, PodSandboxFilter,
    PodSandboxStatusRequest, PodSandboxStatusResponse, PullImageRequest, PullImageResponse,
    RemoveContainerRequest, RemoveContainerResponse, RemoveImageRequest, RemoveImageResponse,
    RemovePodSandboxRequest, RemovePodSandboxResponse, RestorePodRequest, RestorePodResponse,
    RunPodSandboxRequest, RunPodSandboxResponse, StartContainerRequest, StartContainerResponse,
    StatusRequest, StatusResponse, StopContainerRequest, StopContainerResponse,
    StopPodSandboxRequest, StopPodSandboxResponse, VersionRequest, VersionResponse,
};

/// Expands to the path of a method of `RuntimeService`.
macro_rules! runtime {
    ($method:literal) => {
        concat!("/runtime.v1.RuntimeService/", $method)
    };
}

/// Expands to the path of a method of `ImageService`.
macro_rules! images {
    ($method:literal) => {
        concat!("/runtime.v1.ImageService/", $method)
    };
}

/// Calls about the engine.
impl Client {
    /// `Version`: name and version of the engine.
    ///
    /// # Errors
    /// The failure of the call.
    pub async fn version(&self) -> Result<VersionResponse> {
        self.call(runtime!("Version"), VersionRequest { version: "v1".into() }).await
    }

    /// `Status`: conditions and runtimes of the engine.
    ///
    /// # Errors
    /// The failure of the call.
    pub async fn status(&self, verbose: bool) -> Result<StatusResponse> {
        self.call(runtime!("Status"), StatusRequest { verbose }).await
    }
}

/// Calls about sandboxes.
impl Client {
    /// `ListPodSandbox`: the sandboxes that meet the filter's conditions.
    ///
    /// # Errors
    /// The failure of the call.
    pub async fn sandboxes(&self, filter: Option<PodSandboxFilter>) -> Result<Vec<PodSandbox>> {
        let question = ListPodSandboxRequest { filter };
        let answer: ListPodSandboxResponse =
            self.call(runtime!("ListPodSandbox"), question).await?;
        Ok(answer.items)
    }

    /// `PodSandboxStatus`: one sandbox, with the engine's own facts if they are wanted.
    ///
    /// # Errors
    /// The failure of the call; [`Code::NotFound`](crate::Code::NotFound) without such a sandbox.
    pub async fn sandbox(&self, id: &str, verbose: bool) -> Result<PodSandboxStatusResponse> {
        let question = PodSandboxStatusRequest { pod_sandbox_id: id.into(), verbose };
        self.call(runtime!("PodSandboxStatus"), question).await
    }

    /// `RunPodSandbox`: makes a sandbox, and returns its id. An empty handler is the default one.
    ///
    /// # Errors
    /// The failure of the call.
    pub async fn run_sandbox(
        &self,
        config: Kept<PodSandboxConfig>,
        handler: &str,
    ) -> Result<String> {
        let question =
            RunPodSandboxRequest { config: Some(config), runtime_handler: handler.into() };
        let answer: RunPodSandboxResponse = self.call(runtime!("RunPodSandbox"), question).await?;
        Ok(answer.pod_sandbox_id)
    }

    /// `StopPodSandbox`: ends the containers of a sandbox. A sandbox that is gone is no error.
    ///
    /// # Errors
    /// The failure of the call.
    pub async fn stop_sandbox(&self, id: &str) -> Result<()> {
        let question = StopPodSandboxRequest { pod_sandbox_id: id.into() };
        let _: StopPodSandboxResponse = self.call(runtime!("StopPodSandbox"), question).await?;
        Ok(())
    }

    /// `RemovePodSandbox`: removes a sandbox with its containers. A sandbox that is gone is no
    /// error.
    ///
    /// # Errors
    /// The failure of the call.
    pub async fn remove_sandbox(&self, id: &str) -> Result<()> {
        let question = RemovePodSandboxRequest { pod_sandbox_id: id.into() };
        let _: RemovePodSandboxResponse = self.call(runtime!("RemovePodSandbox"), question).await?;
        Ok(())
    }
}

/// Calls about containers.
impl Client {
    /// `ListContainers`: the containers that meet the filter's conditions.
    ///
    /// # Errors
    /// The failure of the call.
    pub async fn containers(&self, filter: Option<ContainerFilter>) -> Result<Vec<Container>> {
        let question = ListContainersRequest { filter };
        let answer: ListContainersResponse =
            self.call(runtime!("ListContainers"), question).await?;
        Ok(answer.containers)
    }

    /// `ContainerStatus`: one container, with the engine's own facts if they are wanted.
    ///
    /// # Errors
    /// The failure of the call; [`Code::NotFound`](crate::Code::NotFound) without such a container.
    pub async fn container(&self, id: &str, verbose: bool) -> Result<ContainerStatusResponse> {
        let question = ContainerStatusRequest { container_id: id.into(), verbose };
        self.call(runtime!("ContainerStatus"), question).await
    }

    /// `CreateContainer`: makes a container in a sandbox, and returns its id.
    ///
    /// # Errors
    /// The failure of the call.
    pub async fn create_container(
        &self,
        sandbox: &str,
        config: Kept<ContainerConfig>,
        sandbox_config: Kept<PodSandboxConfig>,
    ) -> Result<String> {
        let question = CreateContainerRequest {
            pod_sandbox_id: sandbox.into(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        let answer: CreateContainerResponse =
            self.call(runtime!("CreateContainer"), question).await?;
        Ok(answer.container_id)
    }

    /// `StartContainer`: lets a container run.
    ///
    /// # Errors
    /// The failure of the call.
    pub async fn start_container(&self, id: &str) -> Result<()> {
        let question = StartContainerRequest { container_id: id.into() };
        let _: StartContainerResponse = self.call(runtime!("StartContainer"), question).await?;
        Ok(())
    }

    /// `StopContainer`: ends a container, and kills it after some seconds.
    ///
    /// # Errors
    /// The failure of the call.
    pub async fn stop_container(&self, id: &str, seconds: u32) -> Result<()> {
        let question =
            StopContainerRequest { container_id: id.into(), timeout: i64::from(seconds) };
        let _: StopContainerResponse = self.call(runtime!("StopContainer"), question).await?;
        Ok(())
    }

    /// `RemoveContainer`: removes a container, and kills the container before if it runs. A
    /// container that is gone is no error.
    ///
    /// # Errors
    /// The failure of the call.
    pub async fn remove_container(&self, id: &str) -> Result<()> {
        let question = RemoveContainerRequest { container_id: id.into() };
        let _: RemoveContainerResponse = self.call(runtime!("RemoveContainer"), question).await?;
        Ok(())
    }
}

/// Calls about images.
impl Client {
    /// `ImageStatus`: an image, if the engine has it.
    ///
    /// # Errors
    /// The failure of the call.
    pub async fn image(&self, image: ImageSpec) -> Result<Option<Image>> {
        let question = ImageStatusRequest { image: Some(image), verbose: false };
        let answer: ImageStatusResponse = self.call(images!("ImageStatus"), question).await?;
        Ok(answer.image)
    }

    /// `PullImage`: fetches an image, and returns the engine's name of the image.
    ///
    /// # Errors
    /// The failure of the call.
    pub async fn pull_image(&self, question: PullImageRequest) -> Result<String> {
        let answer: PullImageResponse = self.call(images!("PullImage"), question).await?;
        Ok(answer.image_ref)
    }

    /// `RemoveImage`: removes an image. An image that is gone is no error.
    ///
    /// # Errors
    /// The failure of the call.
    pub async fn remove_image(&self, image: ImageSpec) -> Result<()> {
        let question = RemoveImageRequest { image: Some(image) };
        let _: RemoveImageResponse = self.call(images!("RemoveImage"), question).await?;
        Ok(())
    }
}

/// Calls about checkpoints.
impl Client {
    /// `CheckpointContainer`: the engine writes a container into an archive. The container runs on.
    ///
    /// # Errors
    /// The failure of the call.
    pub async fn checkpoint_container(&self, question: CheckpointContainerRequest) -> Result<()> {
        let _: CheckpointContainerResponse =
            self.call(runtime!("CheckpointContainer"), question).await?;
        Ok(())
    }

    /// `CheckpointPod`: the engine writes all containers of a pod into a directory, all of the same
    /// moment. The pod runs on.
    ///
    /// # Errors
    /// The failure of the call; [`Code::Unimplemented`](crate::Code::Unimplemented) by engines that
    /// do not have the call.
    pub async fn checkpoint_pod(&self, question: CheckpointPodRequest) -> Result<()> {
        let _: CheckpointPodResponse = self.call(runtime!("CheckpointPod"), question).await?;
        Ok(())
    }

    /// `RestorePod`: the engine makes a sandbox and the containers of a checkpoint.
    /// [`Client::start_container`] then lets each of them go on.
    ///
    /// # Errors
    /// The failure of the call; [`Code::Unimplemented`](crate::Code::Unimplemented) by engines that
    /// do not have the call.
    pub async fn restore_pod(&self, question: RestorePodRequest) -> Result<RestorePodResponse> {
        self.call(runtime!("RestorePod"), question).await
    }
}
